"""The loader and the linter under anything: no exception but ours, one meaning in every spelling, nothing lost."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citadel.authz import MeshFacts, PolicyDocuments, SourceText, Workload, lint, load
from citadel.errors import BadFile
from citadel.spiffe import TrustDomain

CHEAP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# --- documents that are nearly right: the words of the format in any arrangement

WORDS = st.sampled_from(
    [
        *("action", "provider", "name", "namespace", "selector", "matchLabels", "targetRefs", "targetRef", "kind"),
        *("group", "rules", "from", "to", "when", "source", "operation", "key", "values", "notValues", "principals"),
        *("notPrincipals", "serviceAccounts", "ipBlocks", "trustDomains", "ports", "paths", "hosts", "methods"),
        *("jwtRules", "issuer", "jwks", "jwksUri", "timeout", "fromHeaders", "mtls", "portLevelMtls", "mode", "<<"),
    ]
)
TEXTS = st.sampled_from(
    [
        *("ALLOW", "DENY", "AUDIT", "CUSTOM", "STRICT", "Service", "*", "a*", "", "a/b", "true", "on", "null", "~"),
        *("/a/{*}", "/{**}", "/{**}/{*}", "10.0.0.0/8", "10.0.0.0/08", "::1", "80", "080", "0x50", "1e3", "5s"),
        *("request.headers[a]", "request.auth.claims[a][b]", "source.ip", "destination.port", "source.serviceAccount"),
        *("experimental.envoy.filters.a[b]", "https://a.example", '{"keys":[]}', "2026-01-01T00:00:00Z", "\x00", "ä"),
    ]
)
SCALARS = st.one_of(TEXTS, st.sampled_from([None, True, False, 0, 80, 1.5]))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
HEADS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("security.istio.io/v1"),
        "kind": st.sampled_from(["AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"]),
        "metadata": st.just({"name": "p", "namespace": "shop"}),
    }
)
FIELDS = st.dictionaries(WORDS, st.lists(TEXTS, max_size=3), max_size=4)
SOURCES = st.fixed_dictionaries({"source": FIELDS})
OPERATIONS = st.fixed_dictionaries({"operation": FIELDS})
RULES = st.fixed_dictionaries(
    {},
    optional={
        "from": st.lists(SOURCES, max_size=3),
        "to": st.lists(OPERATIONS, max_size=3),
        "when": st.lists(
            st.fixed_dictionaries({"key": TEXTS}, optional={"values": st.lists(TEXTS, max_size=3)}), max_size=3
        ),
    },
)
SPECS = TREES | st.dictionaries(WORDS, TREES) | st.fixed_dictionaries({"rules": st.lists(RULES, max_size=3)})
NEARLY = st.builds(lambda head, spec: {**head, "spec": spec}, HEADS, SPECS)


def attempt(content: bytes, name: str = "p.yaml") -> PolicyDocuments | BadFile:
    """What a load gives or says; anything else that it raises fails the test."""
    try:
        return load([SourceText(name, content)])
    except BadFile as error:
        refusal = error
    lines = content.count(b"\n") + content.count(b"\r") + 2
    assert refusal.mistakes
    assert all(0 < m.line <= lines and m.column > 0 for m in refusal.mistakes), refusal.mistakes
    assert all(str(m).isprintable() for m in refusal.mistakes)
    return refusal


@CHEAP
@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_refused(content: bytes) -> None:
    attempt(content)
    attempt(content, "p.json")


@CHEAP
@given(st.text(st.sampled_from("-?:,[]{}#&*!|>'\"%@` \n\t<ab0~.\\"), max_size=60))
def test_any_arrangement_of_yamls_signs_loads_or_is_refused(text: str) -> None:
    attempt(text.encode())


@CHEAP
@given(st.one_of(TREES, NEARLY))
def test_a_document_that_is_nearly_right_loads_or_is_refused_alike_in_json_and_yaml(tree: Any) -> None:
    as_json = attempt(json.dumps(tree).encode("utf-8"), "p.json")
    as_yaml = attempt(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))
    if isinstance(as_json, PolicyDocuments) and isinstance(as_yaml, PolicyDocuments):
        assert as_json == as_yaml


@CHEAP
@given(NEARLY, st.data())
def test_a_file_that_is_cut_or_garbled_anywhere_loads_or_is_refused(tree: Any, data: st.DataObject) -> None:
    content = yaml.safe_dump(tree).encode("utf-8", "replace")
    at = data.draw(st.integers(0, len(content)))
    attempt(content[:at])
    attempt(content[:at] + data.draw(st.binary(max_size=4)) + content[at:])


@CHEAP
@given(st.lists(NEARLY, max_size=4), st.lists(NEARLY, max_size=4))
def test_what_is_reused_changes_nothing(before: list[Any], after: list[Any]) -> None:
    def text(trees: list[Any]) -> list[SourceText]:
        named = [{**tree, "metadata": {"name": f"p{n}", "namespace": "shop"}} for n, tree in enumerate(trees)]
        return [SourceText("p.yaml", yaml.safe_dump_all(named).encode("utf-8", "replace"))]

    def outcome(previous: PolicyDocuments | None) -> object:
        try:
            loaded = load(text(after), previous=previous)
        except BadFile as error:
            return error.mistakes
        return loaded, loaded.warnings, loaded.origins

    try:
        previous = load(text(before))
    except BadFile:
        return
    assert outcome(previous) == outcome(None)


@CHEAP
@given(st.lists(NEARLY, max_size=4))
def test_whatever_loads_can_be_linted_and_each_finding_has_its_place(trees: list[Any]) -> None:
    named = [{**tree, "metadata": {"name": f"p{n}", "namespace": "shop"}} for n, tree in enumerate(trees)]
    try:
        loaded = load([SourceText("p.yaml", yaml.safe_dump_all(named).encode("utf-8", "replace"))])
    except BadFile:
        return
    for finding in lint(loaded, MeshFacts(TrustDomain("prod.example")), [Workload("shop", {"a": "b"})]):
        assert finding.line > 0
        assert finding.column > 0
        assert str(finding).isprintable()
