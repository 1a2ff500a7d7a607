"""Requests and decisions as lines of JSON."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel.authz import HttpRequest, MeshFacts, Request, Workload, load_text
from citadel.authz.asking import MAX_LINE, Asked, Lines, decision_schema, request_schema
from citadel.authz.decision_log.schema import record_schema
from citadel.authz.policyset import compile_documents
from citadel.authz.tables.table import table_schema
from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId, TrustDomain

SCHEMAS = Path(__file__).parents[3] / "docs" / "schema"
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: fraud, namespace: shop}
spec:
  action: CUSTOM
  provider: {name: nobody}
  rules: [{to: [{operation: {paths: [/buy]}}]}]
"""
POLICY_SET = compile_documents(load_text(POLICIES), MeshFacts(TrustDomain("example.org")))
CART = {"namespace": "shop", "labels": {"app": "cart"}}


@pytest.fixture
def lines() -> Lines:
    return Lines(POLICY_SET)


def said(lines: Lines, **document: Any) -> Any:
    return json.loads(lines.answer(json.dumps({"workload": CART, **document}).encode()))


def test_every_attribute_arrives() -> None:
    asked = Asked.parse(
        json.dumps(
            {
                "schema": "citadel.dev/authorization-request/v1",
                "id": 7,
                "workload": CART,
                "peer": "spiffe://example.org/ns/shop/sa/web",
                "source_ip": "10.0.0.1",
                "destination_ip": "::1",
                "port": 80,
                "sni": "Cart.Shop",
                "http": {
                    "method": "GET",
                    "path": "/x?y",
                    "authority": "cart:80",
                    "headers": {"X-One": "1", "x-two": ["a", "b"]},
                    "claims": {"iss": "i", "sub": "s"},
                },
                "metadata": {"envoy.filters.x": {"k": [1]}},
            }
        )
    )
    assert asked.workload.value() == Workload("shop", {"app": "cart"})
    assert asked.request() == Request(
        port=80,
        peer=SpiffeId.parse("spiffe://example.org/ns/shop/sa/web"),
        source_ip=ip_address("10.0.0.1"),
        remote_ip=ip_address("10.0.0.1"),
        destination_ip=ip_address("::1"),
        sni="cart.shop",
        http=HttpRequest("GET", "/x?y", "cart:80", {"x-one": ("1",), "x-two": ("a", "b")}, {"iss": "i", "sub": "s"}),
        metadata={"envoy.filters.x": {"k": [1]}},
    )


def test_a_decision_comes_back_with_the_id(lines: Lines) -> None:
    assert said(lines, id="a", http={"method": "GET"}) == {
        "schema": "citadel.dev/authorization-decision/v1",
        "id": "a",
        "outcome": "allow",
        "reason": "allowed-by-policy",
        "action": "ALLOW",
        "policy": "shop/readers",
        "rule": 0,
        "audited": [],
        "dry_run": [],
        "dry_run_outcome": None,
        "detail": "",
    }
    assert said(lines, http={"method": "PUT"})["reason"] == "no-allow-matched"
    assert said(lines)["reason"] == "provider-unknown"  # on TCP a CUSTOM policy by path matches everything
    assert said(lines, http={"path": "/buy"}, providers={"nobody": "allow"})["reason"] == "provider-unknown"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[]", ["object"]),
        ("{", ["JSON"]),
        ("null", ["object"]),
        ('{"prot": 1}', ["prot: there is no such field; did you mean port?"]),
        ('{"port": 65536, "peer": "web"}', ["port: expected a number not above 65535", "peer", "spiffe://"]),
        ('{"port": "x"}', ["port: expected a whole number"]),
        ('{"id": [1]}', ["id: expected text, or a whole number"]),
        ('{"peer": "spiffe://a/b", "unknown_peer": "spiffe://a/b"}', ["peer and unknown_peer"]),
        ('{"http": {"methods": "GET"}}', ["http.methods: there is no such field; did you mean method?"]),
        ('{"http": {"method": ""}}', ["http.method: it is empty"]),
        ('{"http": {"headers": {"str": 1}}}', ["http.headers.str: expected text, or a list of texts"]),
        ('{"http": {"headers": {"a": [1]}}}', ["http.headers.a: expected text, or a list of texts"]),
        ('{"workload": {"label": {}}}', ["workload.label: there is no such field; did you mean labels?"]),
        ('{"workload": {"labels": {"str": 1}}}', ["workload.labels.str: expected text"]),
        ('{"metadata": []}', ["metadata: expected an object"]),
        ('{"http": {"headers": {"A": "1", "a": "2"}}}', ["'a' is there twice"]),
        ('{"http": {"headers": {":path": "/"}}}', [":path"]),
        ('{"http": {"headers": {"host": "a"}}}', ["authority"]),
        ('{"source_ip": "10.0.0"}', ["source_ip"]),
        ('{"source_ip": 1}', ["source_ip", "text"]),
        ('{"schema": "citadel.dev/authorization-request/v2"}', ["schema"]),
        ('{"providers": {"p": "maybe"}}', ["providers.p"]),
        ('{"a":' * 5000, ["JSON"]),
    ],
)
def test_what_is_no_request_is_denied_and_named(lines: Lines, document: str, words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Asked.parse(document)
    assert [word for word in words if word not in caught.value.message] == []
    of_pydantic = ("Extra inputs", "Input should", "valid string", "list[str]", "Value error", "Field required")
    assert [words for words in of_pydantic if words in caught.value.message] == []
    answer = json.loads(lines.answer(document.encode()))
    assert (answer["outcome"], answer["reason"], lines.bad) == ("deny", "bad-request", 1)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_answered_with_a_denial(noise: bytes) -> None:
    door = Lines(POLICY_SET)
    assert json.loads(door.answer(noise))["outcome"] == "deny"


def test_lines_are_answered_as_they_come_however_they_are_cut(lines: Lines) -> None:
    asked = [json.dumps({"id": i, "workload": CART, "http": {}}).encode() for i in range(50)]
    whole = b"\n".join(asked)
    for size in (1, 7, 4096):
        chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
        answers = "".join(lines.answers(chunks)).splitlines()
        assert [json.loads(one)["id"] for one in answers] == list(range(50))


def test_who_waits_for_an_answer_gets_it(lines: Lines) -> None:
    def one_after_another() -> Any:
        for number in range(3):
            yield b'{"http": {}}\n'
            assert len(got) == number + 1

    got: list[str] = []
    for answer in lines.answers(one_after_another()):
        got.append(answer)  # noqa: PERF402  (seen by the other side)
    assert len(got) == 3


def test_a_line_without_end_is_refused(lines: Lines) -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        list(lines.answers([b"x" * MAX_LINE, b"x"]))


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("authorization-request-v1", request_schema()),
        ("authorization-decision-v1", decision_schema()),
        ("policy-test-v1", table_schema()),
        ("decision-log-v1", record_schema()),
    ],
)
def test_the_schema_files_are_current(name: str, schema: dict[str, Any]) -> None:
    assert json.loads((SCHEMAS / f"{name}.json").read_text()) == schema, "run scripts/generate-docs"
