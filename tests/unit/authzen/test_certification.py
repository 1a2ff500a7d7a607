"""OpenID's certification scenario for decision points (AuthZEN, certification/authorization-api-1_0-scenario), whose
fixture is a policy and a directory here: the decisions and the searches that it wants."""

from __future__ import annotations

from typing import Any

import pytest

from citadel.authz.entities import read_entities
from tests.unit.authzen.world import World, policy_set

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: fixture, namespace: crm}
spec:
  rules:
  - from: [{source: {requestPrincipals: [user/alice, user/bob]}}]
    to: [{operation: {methods: [read], paths: [/record/record-1]}}]
  - from: [{source: {requestPrincipals: [user/alice]}}]
    to: [{operation: {methods: [write], paths: ["/record/*"]}}]
    when: [{key: "experimental.envoy.filters.authzen.resource[status]", notValues: [archived]}]
  - to: [{operation: {methods: [write], paths: ["/record/*"]}}]
    when:
    - {key: "request.auth.claims[role]", values: [admin]}
    - {key: "experimental.envoy.filters.authzen.resource[status]", values: [archived]}
  - from: [{source: {requestPrincipals: [user/alice]}}]
    to: [{operation: {methods: [delete], paths: [/record/record-1]}}]
    when: [{key: "experimental.envoy.filters.authzen.action[soft]", values: ["true"]}]
"""
ENTITIES = b"""
entities:
- {type: user, id: alice}
- {type: user, id: bob, properties: {role: admin}}
- {type: record, id: record-1, properties: {status: active}}
- {type: record, id: record-2, properties: {status: archived}}
actions: [{name: read}, {name: write}, {name: delete}]
"""


def world() -> World:
    return World(policies=policy_set(POLICY), entities=read_entities("e.yaml", ENTITIES))


def asked(user: str, method: str, record: str, **properties: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "subject": {"type": "user", "id": user},
        "action": {"name": method},
        "resource": {"type": "record", "id": record},
    }
    for name, given in properties.items():
        found[name]["properties"] = given
    return found


DECISIONS = [
    (asked("alice", "read", "record-1"), True),
    (asked("alice", "write", "record-1"), True),
    (asked("bob", "read", "record-1"), True),
    (asked("bob", "write", "record-1"), False),
    (asked("alice", "write", "record-2", resource={"status": "archived"}), False),
    (asked("alice", "write", "record-1", resource={"status": "archived"}), False),
    (asked("bob", "write", "record-2", subject={"role": "admin"}, resource={"status": "archived"}), True),
    (asked("alice", "delete", "record-1", action={"soft": True}), True),
    (asked("alice", "delete", "record-1", action={"soft": False}), False),
    (asked("alice", "read", "record-1") | {"context": {"time": "2026-11-24T12:00Z"}, "unknown": {"a": 1}}, True),
]


@pytest.mark.parametrize(("question", "decision"), DECISIONS)
async def test_each_decision_of_the_fixture(question: dict[str, Any], decision: bool) -> None:
    async with world().client() as client:
        for _ in range(2):
            assert (await client.post("/access/v1/evaluation", json=question)).json() == {"decision": decision}


async def test_they_are_the_same_together() -> None:
    async with world().client() as client:
        body = {"evaluations": [question for question, _ in DECISIONS]}
        found = (await client.post("/access/v1/evaluations", json=body)).json()["evaluations"]
        assert [one["decision"] for one in found] == [decision for _, decision in DECISIONS]


@pytest.mark.parametrize(
    ("kind", "question", "found"),
    [
        ("subject", asked("x", "read", "record-1"), ["alice", "bob"]),
        ("resource", asked("alice", "read", "x"), ["record-1"]),
        ("action", asked("alice", "x", "record-1"), ["read", "write"]),
        ("subject", asked("x", "write", "record-2", resource={"status": "archived"}), ["bob"]),
        ("resource", asked("bob", "write", "x", subject={"role": "admin"}), ["record-2"]),
        (
            "action",
            asked("bob", "x", "record-2", subject={"role": "admin"}, resource={"status": "archived"}),
            ["write"],
        ),
    ],
)
async def test_each_search_of_the_fixture(kind: str, question: dict[str, Any], found: list[str]) -> None:
    searched = {name: one for name, one in question.items() if not (kind == name == "action")}
    async with world().client() as client:
        results = (await client.post(f"/access/v1/search/{kind}", json=searched)).json()["results"]
        assert [one.get("id", one.get("name")) for one in results] == found


@pytest.mark.parametrize(
    ("given", "text"),
    [(True, "true"), (False, "false"), (7, "7"), (7.0, "7"), (-0.5, "-0.5"), (10**20, str(10**20)), ("7", "7")],
)
async def test_booleans_and_numbers_are_the_texts_that_json_has_for_them(given: Any, text: str) -> None:
    key = "experimental.envoy.filters.authzen.context"
    policy = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: a, namespace: crm}}
spec: {{rules: [{{when: [{{key: "{key}[one]", values: ["{text}"]}}, {{key: "{key}[list]", values: ["[{text}]"]}}]}}]}}
"""
    async with World(policies=policy_set(policy)).client() as client:
        question = asked("a", "read", "b") | {"context": {"one": given, "list": ["x", given]}}
        assert (await client.post("/access/v1/evaluation", json=question)).json() == {"decision": True}
        for other in (None, "x", {"true": given}, [given]):
            question = asked("a", "read", "b") | {"context": {"one": other, "list": ["x", given]}}
            assert (await client.post("/access/v1/evaluation", json=question)).json() == {"decision": False}
