"""Cases for a real Envoy by a seed: every field of the specification's table in both forms, and whole policy sets.

The values collide on purpose (tests/support/authz_cases.py), so that each field is met from both sides.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

from citadel.authz import PathNormalization
from tests.support import authz_cases as cases
from tests.support.envoy_rbac import ISSUERS, Case, Connection

Doc = dict[str, Any]

NEAR = ["127.0.0.1", "127.0.0.0/8", "127.0.0.2/31", "127.0.0.3", "10.0.0.0/8", "::/0", "::1"]
"""Networks of direct peers: those of the machine itself."""
SOURCES: dict[str, list[str]] = {**cases.SOURCE_FIELDS, "ipBlocks": NEAR}
OPERATIONS: dict[str, list[str]] = dict(cases.OPERATION_FIELDS)
CONDITIONS: dict[str, list[str]] = {**cases.CONDITIONS, "source.ip": NEAR}
HEADER_TEXTS = [text for text in cases.TEXTS if "\n" not in text]
FIELDS = [
    *(("from", name) for name in sorted(SOURCES)),
    *(("to", name) for name in sorted(OPERATIONS)),
    *(("when", name) for name in sorted(CONDITIONS)),
]


class Generator:
    """One seed gives the same cases."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._hints: list[str] = []

    def one(self, *values: Any) -> Any:
        return self._random.choice(values)

    def some(self, values: list[str], most: int = 3) -> list[str]:
        return self._random.sample(values, min(len(values), self._random.randint(1, most)))

    def by_field(self, connections: int, requests: int) -> Iterator[Case]:
        """Each field by itself: plain and negated, under ALLOW and DENY, over HTTP and TCP."""
        for part, name in FIELDS:
            for form in (False, True):
                for action, http in (("ALLOW", True), ("DENY", True), (self.one("ALLOW", "DENY"), False)):
                    documents = [self._policy("p", action, [{part: [self._entry(part, name, form)]}])]
                    label = f"{name}-{'not-' if form else ''}{action}-{'http' if http else 'tcp'}"
                    yield self._case(label, documents, http, connections, requests)

    def sets(self, count: int, connections: int, requests: int) -> Iterator[Case]:
        """Several policies with several fields."""
        for number in range(count):
            documents = [self._any_policy(f"p{place}") for place in range(self.one(1, 2, 3, 4))]
            yield self._case(f"set-{number}", documents, self.one(True, True, False), connections, requests)

    # --- policies

    def _policy(self, name: str, action: str, rules: list[Doc], *, dry_run: bool = False) -> Doc:
        metadata: Doc = {"name": name, "namespace": "a"}
        if dry_run:
            metadata["annotations"] = {"istio.io/dry-run": "true"}
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": metadata,
            "spec": {"action": action, "rules": rules},
        }

    def _any_policy(self, name: str) -> Doc:
        action = self.one("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT")
        rules = [self._rule() for _ in range(self.one(1, 1, 2, 3))]
        return self._policy(name, action, rules, dry_run=action != "AUDIT" and self.one(*[False] * 5, True))

    def _rule(self) -> Doc:
        rule: Doc = {}
        if self.one(True, False):
            rule["from"] = [self._entry("from", None, None) for _ in range(self.one(1, 2))]
        if self.one(True, False):
            rule["to"] = [self._entry("to", None, None) for _ in range(self.one(1, 2))]
        if self.one(True, False, False):
            rule["when"] = [self._entry("when", None, None) for _ in range(self.one(1, 2))]
        return rule

    def _entry(self, part: str, name: str | None, form: bool | None) -> Doc:
        """One source, operation or condition: with the one field, or with one or two by chance."""
        if part == "when":
            key = name or self.one(*sorted(CONDITIONS))
            negated = self.one(False, True) if form is None else form
            return {"key": key, "notValues" if negated else "values": self.some(CONDITIONS[key])}
        of = SOURCES if part == "from" else OPERATIONS
        chosen = [name] if name else self.some(sorted(of), 2)
        if "serviceAccounts" in chosen:
            chosen = [one for one in chosen if one not in ("principals", "namespaces")]
        fields = {}
        for one in chosen:
            negated = self.one(False, False, True) if form is None else form
            fields[f"not{one[0].upper()}{one[1:]}" if negated else one] = self.some(of[one])
        return {"source" if part == "from" else "operation": fields}

    # --- what is asked

    def _case(self, name: str, documents: list[Doc], http: bool, connections: int, requests: int) -> Case:
        mesh = {
            "trust_domain": self.one("cluster.local", "td1"),
            "aliases": self.one([], ["td2"], ["old-td", "cluster.local"]),
            "root": "root",
            "normalization": self.one(*(mode.value for mode in PathNormalization)),
            "providers": {},
            "several_providers": False,
            "space_delimited": self.one(["scope", "permission"], ["scope", "groups"]),
        }
        self._hints = sorted({text.strip("*") for text in _texts(documents)} - {""})
        metadata = {f"envoy.filters.{one}": {"k": self._claim()} for one in ("f", "f.g")} if http else {}
        asked = [
            (self._connection(), [self._http() for _ in range(requests)] if http else []) for _ in range(connections)
        ]
        return Case(name, documents, mesh, asked, http, metadata)

    def _connection(self) -> Connection:
        one = self.one
        tls = one(True, True, True, False)
        version = one(4, 4, 6)
        addresses = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "11.0.0.1"] if version == 4 else ["::1", "fd00::1"]
        return Connection(
            tls,
            self._near(PEERS, *cases.PEERS, None, None) if tls else None,
            one("", "a.b", "A.B", "b") if tls else "",
            one("127.0.0.1", "127.0.0.2", "127.0.0.3"),
            one(*addresses),
            one(*addresses),
            one(80, 8080, 443),
        )

    def _http(self) -> Doc:
        """Now and then with what Envoy refuses before any filter sees it."""
        one, odd = self.one, self.one(*[False] * 7, True)
        return {
            "method": one(*cases.METHODS) if odd else self._near(_METHOD, "GET", "GET", "POST"),
            "path": self._near(_PATH, *(path for path in cases.PATHS if path and " " not in path)),
            "authority": one("", *cases.HOSTS) if odd else self._host(),
            "headers": {
                n: [self._near(_HEADER, *HEADER_TEXTS) for _ in range(one(1, 1, 2))]
                for n in ("x", "accept")
                if one(0, 1, 1)
            },
            "jwt": one(None, self._jwt(), self._jwt()),
        }

    def _host(self) -> str:
        host: str = self._near(_HOST, "a.b", "A.b", "a.b:80", "a.b.", "b")
        return self.one(host, host.upper(), host.lower())  # type: ignore[no-any-return]

    def _near(self, form: re.Pattern[str], *values: Any) -> Any:
        """Now a value that the policies name, if there is one of this form, now any."""
        if form is PEERS:
            named = [peer for hint in self._hints if form.fullmatch(hint) for peer in _peers(hint)]
        else:
            named = [hint for hint in self._hints if form.fullmatch(hint)]
        return self.one(*named) if named and self.one(True, False) else self.one(*values)

    def _jwt(self) -> Doc:
        """A token that Envoy accepts."""
        one = self.one
        jwt: Doc = {name: self._claim() for name in ("azp", "a", "scope", "groups") if one(0, 1, 1)}
        jwt["iss"] = one(*ISSUERS)
        if one(0, 1, 1, 1):
            jwt["sub"] = one("x", "", "a", "*", "x/y", "xx")
        if one(0, 1, 1):
            jwt["aud"] = self._near(_HEADER, "a", "ab", "b", ["a", "b"], [], ["ab", "a b"])
        return jwt

    def _claim(self) -> Any:
        one = self.one
        text = self._near(_HEADER, *cases.TEXTS)
        odd = one(1, True, None, {}, {"b": text}, {"b": [text, "ab"]}, {"scope": text}, {"b": {"c": "a"}})
        several = [one(0, 1, text, *cases.TEXTS) for _ in range(one(0, 1, 2, 3))]
        return one(text, several, odd)


def _peers(hint: str) -> list[str]:
    """Peers that have this text as their ID, trust domain, namespace or account, and one that only seems to."""
    if "/" in hint:
        namespace, account = hint.split("/")[:2]
        return [f"spiffe://{hint}", f"spiffe://td1/ns/{namespace}/sa/{account}"]
    ids = (f"{hint}/ns/a/sa/x", f"td1/ns/{hint}/sa/x", f"ns/{hint}/sa/x", f"td1/ns/a/sa/{hint}")
    return [f"spiffe://{one}" for one in ids]


PEERS = re.compile("[a-z0-9-]+(/[a-z0-9-]+)*")
_METHOD = re.compile("GET|POST")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[A-Za-z.]+(:[0-9]+)?")
_HEADER = re.compile(r"[!-~]+")


def _texts(value: Any) -> Iterator[str]:
    """The values of all fields."""
    if isinstance(value, list):
        for one in value:
            yield from [one] if isinstance(one, str) else _texts(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
