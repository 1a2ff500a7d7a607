"""Loading policies: 10,000 of them cold and when one has changed, beside bare libyaml; and the worst of 100 KB.

CPU time of this process; the best of several turns, for the machine has other users.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

from citadel.authz import MeshFacts, PolicyDocuments, PolicySet, SourceText, load
from citadel.authz.facts import PathNormalization
from citadel.authz.paths import BadPath, normalize
from citadel.authz.policyset import compile_documents
from citadel.authz.sources import load_paths
from citadel.authz.template import PathTemplate
from citadel.errors import BadFile
from citadel.spiffe import TrustDomain
from tests.bench.row import Row

_POLICIES = 10_000
_TURNS = 3
_HOSTILE_BYTES = 100 * 1024
_FACTS = MeshFacts(TrustDomain("prod.example"))
_Set = tuple[PolicyDocuments, PolicySet]

_POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-{n}
  namespace: team-{team}
spec:
  selector:
    matchLabels:
      app: service-{n}
  action: ALLOW
  rules:
  - from:
    - source:
        principals: ["prod.example/ns/team-{team}/sa/web-{n}", "prod.example/ns/shop/sa/cart"]
    - source:
        namespaces: ["monitoring"]
    to:
    - operation:
        methods: ["GET", "POST"]
        paths: ["/api/v{n}/*", "/healthz"]
        ports: ["8080"]
    when:
    - key: request.auth.claims[iss]
      values: ["https://accounts.example"]
"""


def rows() -> list[Row]:
    texts = [_POLICY.format(n=n, team=n % 50) for n in range(_POLICIES)]
    whole = SourceText("policies.yaml", "---\n".join(texts).encode())
    texts[77] = texts[77].replace("GET", "PUT")
    changed = SourceText("policies.yaml", "---\n".join(texts).encode())
    before = load([whole])
    bare = _least(lambda: list(yaml.load_all(whole.content, Loader=yaml.CSafeLoader)))
    cold = _least(lambda: load([whole]))
    warm = _least(lambda: load([changed], previous=before))
    worst, name = max((_least(partial(_refused, text)), name) for name, text in _hostile().items())
    return [
        *_from_a_folder(texts),
        Row(f"load {_POLICIES:,} policies, cold", cold, "s CPU", bare, "CSafeLoader alone", "under 6 s", cold < 6),
        Row(f"load {_POLICIES:,} policies, one changed", warm, "s CPU", bare, "", "under 1 s", warm < 1),
        Row(f"load 100 KB of the worst: {name}", worst * 1000, "ms CPU", goal="under 50 ms", met=worst < 0.05),
        _worst_path(),
    ]


def _worst_path() -> Row:
    """Normalised in the strongest mode, and held against a template."""
    template = PathTemplate.parse("/{*}/a/{**}/b")

    def read(unit: str) -> None:
        path = "/" + unit * (_HOSTILE_BYTES // len(unit.encode("utf-8", "surrogateescape")))
        with suppress(BadPath):
            template.match(normalize(path, PathNormalization.DECODE_AND_MERGE_SLASHES))

    units = ["/", "/..", "/{*}", "%", "%6", "é", "//", "/..;", "\\", "%2f", "\udcff", "/%2e%2e", "%25", "{}", "/a"]
    worst, unit = max((_least(partial(read, unit)), unit) for unit in units)
    return Row(
        f"normalise and match a path of 100 KB of the worst: {unit!a}",
        worst * 1000,
        "ms CPU",
        goal="under 50 ms",
        met=worst < 0.05,
    )


def _from_a_folder(texts: list[str]) -> list[Row]:
    """All that a change costs: files read, loaded, compiled."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, text in enumerate(texts):
            (folder / f"{number}.yaml").write_text(text)

        def whole(documents: PolicyDocuments | None = None, policies: PolicySet | None = None) -> _Set:
            found = load_paths([folder], previous=documents)
            return found, compile_documents(found, _FACTS, policies)

        before = whole()
        cold = _least(whole)
        (folder / "77.yaml").write_text(texts[77].replace("healthz", "livez"))
        warm = _least(lambda: whole(*before))
    name = f"{_POLICIES:,} files of policies read, loaded, compiled"
    return [
        Row(f"{name}, cold", cold, "s CPU", goal="under 6 s", met=cold < 6),
        Row(f"{name}, one changed", warm, "s CPU", goal="under 1 s", met=warm < 1),
    ]


def _least(run: Callable[[], object]) -> float:
    took = []
    for _ in range(_TURNS):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return min(took)


def _refused(text: bytes) -> None:
    try:
        load([SourceText("hostile.yaml", text)])
    except BadFile:
        return


def _hostile() -> dict[str, bytes]:
    def fill(unit: str, head: str = "") -> bytes:
        return (head + unit * (_HOSTILE_BYTES // len(unit))).encode()

    known = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: n}\nspec: "
    return {
        "lists in lists": fill("[", "a: "),
        "mappings in mappings": fill("{a: "),
        "JSON in JSON": fill('{"a":'),
        "tiny lists": fill("[],", "a: ["),
        "tiny values": fill("x,", "a: [") + b"]",
        "tiny mappings": fill("- {}\n", "a:\n"),
        "tiny pairs": fill("- a: b\n", "a:\n"),
        "empty documents": fill("---\n"),
        "tiny documents": fill("---\nx\n"),
        "keys": "".join(f"k{n}: x\n" for n in range(_HOSTILE_BYTES // 9)).encode(),
        "the same key": fill("a: b\n"),
        "unknown fields": (known + "{" + ", ".join(f"k{n}" for n in range(_HOSTILE_BYTES // 8)) + "}").encode(),
        "empty rules": fill("{},", known + "{rules: [") + b"]}",
        "null rules": fill("~,", known + "{rules: [") + b"]}",
        "empty values": fill("'',", known + "{rules: [{from: [{source: {principals: [") + b"]}}]}]}",
        "labels": (known + "{selector: {matchLabels: {" + ", ".join(f"k{n}: on" for n in range(8000)) + "}}}").encode(),
        "one value": fill("x", "a: "),
        "one word": fill("ab-", known + "{action: ") + b"}",
        "braces": fill("{*}", known + "{rules: [{to: [{operation: {paths: ['/") + b"']}}]}]}",
        "null characters": fill("\0"),
        "anchors": "".join(f"a{n}: &a{n} x\n" for n in range(_HOSTILE_BYTES // 15)).encode(),
        "aliases": ("a: &a [x]\nb: [" + "*a," * 5000 + "]\n").encode(),
    }
