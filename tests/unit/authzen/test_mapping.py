"""What of a question policies see: the mapping that docs/authzen.md states."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.authz import HttpRequest, MeshFacts, PathNormalization, Request
from citadel.authz.doors.authzen import AuthzenRules
from citadel.authz.doors.authzen.mapping import path_of
from citadel.authz.subject import Subject as Seen
from citadel.spiffe import TrustDomain
from tests.support.tokens import NOW, key_set, public_jwk, token
from tests.unit.authzen.world import PEP, POLICIES, World, policy_set, question

ISSUER = "https://issuer.example"
WEB = "spiffe://example.org/ns/crm/sa/web"


async def decision(world: World, **asked: Any) -> bool:
    async with world.client() as client:
        answer = await client.post("/access/v1/evaluation", json=question(**asked))
        assert answer.status_code == 200, answer.json()
        return bool(answer.json()["decision"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"subject": WEB}, True),
        ({"subject": "spiffe://example.org/ns/crm/sa/other"}, False),
        ({"subject": "spiffe://elsewhere.org/ns/crm/sa/web"}, False),
        ({"resource": "document/secret"}, False),
        ({"resource": "document/a/../secret"}, False),
        ({"resource": "document/a%2F..%2Fsecret"}, True),  # another document
        ({"action": "CAN_READ"}, False),
        ({"context": {"network": "guest"}}, False),
        ({"context": {"network": ["guest"]}}, True),
        ({"action": "can_edit"}, True),  # alice is in sales: the directory says so
        ({"action": "can_edit", "subject": "carol@example.com"}, False),
    ],
)
async def test_policies_match_what_a_question_says(asked: dict[str, Any], expected: bool) -> None:
    assert await decision(World(), **asked) is expected


@pytest.mark.parametrize(
    ("of_resource", "expected"),
    [({}, True), ({"state": "hidden"}, False), ({"other": 1}, True)],
)
async def test_the_directory_fills_in_what_is_left_out(of_resource: dict[str, Any], expected: bool) -> None:
    resource = {"type": "account", "id": "123", "properties": of_resource}
    async with World().client() as client:
        asked = question("carol@example.com", "open") | {"resource": resource}
        assert (await client.post("/access/v1/evaluation", json=asked)).json() == {"decision": expected}


@pytest.mark.parametrize(
    ("may_state", "properties", "expected"),
    [
        (True, {"department": "sales"}, True),
        (False, {"department": "sales"}, False),
        (True, {"department": "sales", "iss": "user", "sub": "nobody"}, True),
        (True, {"iss": "user", "sub": "alice@example.com"}, False),
    ],
)
async def test_claims_count_from_those_who_may_state_them(
    may_state: bool, properties: dict[str, Any], expected: bool
) -> None:
    world = World()
    if not may_state:
        world.callers = type(world.callers)(PEP.names)
    async with world.client() as client:
        asked = question("carol@example.com", "can_edit")
        asked["subject"]["properties"] = properties
        assert (await client.post("/access/v1/evaluation", json=asked)).json() == {"decision": expected}


async def test_a_workload_does_not_become_an_end_user_by_its_properties() -> None:
    async with World().client() as client:
        asked = question("spiffe://example.org/ns/crm/sa/other")
        asked["subject"]["properties"] = {"iss": "user", "sub": "alice@example.com"}
        assert (await client.post("/access/v1/evaluation", json=asked)).json() == {"decision": False}


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        ("spiffe://example.org/ns/crm/sa/records", True),
        ({"namespace": "crm", "labels": {"app": "records"}}, True),
        ({"namespace": "crm"}, True),  # no ALLOW policy applies to it
        ("spiffe://example.org/ns/crm/sa/unknown", False),
    ],
)
async def test_a_question_says_whose_policies_are_asked(workload: Any, expected: bool) -> None:
    world = World(rules=AuthzenRules())
    async with world.client() as client:
        asked = question()
        assert (await client.post("/access/v1/evaluation", json=asked)).status_code == 400
        asked["resource"]["properties"] = {"workload": workload}
        assert (await client.post("/access/v1/evaluation", json=asked)).json() == {"decision": expected}


# --- raw tokens

GATED = f"""{POLICIES}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: crm}}
spec:
  jwtRules: [{{issuer: "{ISSUER}", jwks: '{key_set(public_jwk("ES256"))}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: token-holders, namespace: crm}}
spec:
  rules:
  - from: [{{source: {{requestPrincipals: ["{ISSUER}/dora"]}}}}]
    when: [{{key: "request.auth.claims[level]", values: [gold]}}]
"""


@pytest.mark.parametrize(
    ("claims", "sub", "stated", "expected"),
    [
        ({"level": "gold"}, "dora", {}, True),
        ({}, "dora", {"level": "gold"}, False),  # a token's claims and stated ones are never mixed
        (None, "dora", {"level": "gold"}, True),
        ({"level": "gold", "sub": "eve"}, "dora", {}, False),
        ({"level": "gold"}, "eve", {}, False),
        ({"level": "gold", "exp": 1}, "dora", {}, False),
    ],
)
async def test_a_raw_token_is_verified(
    claims: dict[str, Any] | None, sub: str, stated: dict[str, Any], expected: bool
) -> None:
    subject: dict[str, Any] = {"type": ISSUER, "id": sub, "properties": stated}
    if claims is not None:
        text = token({"iss": ISSUER, "sub": "dora", "exp": NOW.timestamp() + 60} | claims)
        subject["properties"] = stated | {"jwt": text}
    async with World(policies=policy_set(GATED)).client() as client:
        answer = await client.post("/access/v1/evaluation", json=question() | {"subject": subject})
        assert answer.json() == {"decision": expected}


async def test_a_token_that_nobody_would_verify_denies() -> None:
    subject = {
        "type": "user",
        "id": "alice@example.com",
        "properties": {"jwt": token(iss="user", sub="alice@example.com")},
    }
    async with World().client() as client:  # no RequestAuthentication applies
        answer = await client.post("/access/v1/evaluation", json=question() | {"subject": subject})
        assert answer.json() == {"decision": False}


# --- paths

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(_TEXT, _TEXT, st.sampled_from(PathNormalization))
def test_a_resource_is_a_path_of_two_segments_that_nothing_changes(
    kind: str, name: str, mode: PathNormalization
) -> None:
    path = path_of(kind, name)
    request = Request(None, http=HttpRequest("GET", path, path_verbatim=True))
    assert Seen(request, MeshFacts(TrustDomain("td"), path_normalization=mode)).path == path
    empty, *segments = path.split("/")
    assert (empty, [unquote(one) for one in segments]) == ("", [kind, name])
    assert path.isascii()


@given(_TEXT, _TEXT, _TEXT, _TEXT)
def test_different_resources_have_different_paths(kind: str, name: str, other_kind: str, other_name: str) -> None:
    same = (kind, name) == (other_kind, other_name)
    assert (path_of(kind, name) == path_of(other_kind, other_name)) is same
