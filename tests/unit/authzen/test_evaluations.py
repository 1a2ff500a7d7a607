"""Evaluation and evaluations, as the specification's examples ask them (Authorization API 1.0, 6 and 7)."""

from __future__ import annotations

from typing import Any

import pytest

from citadel.authz.doors.authzen import AuthzenRules, NamedWorkload
from tests.unit.authzen.world import RECORDS, World, question

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
TIME = {"time": "2024-05-31T15:22-07:00"}
ALICE = {"type": "user", "id": "alice@example.com"}
BOB = {"type": "user", "id": "bob@example.com"}
READ, EDIT = {"name": "can_read"}, {"name": "can_edit"}


def document(name: str) -> dict[str, str]:
    return {"type": "document", "id": name}


async def test_the_first_example_of_the_specification() -> None:
    async with World().client() as client:
        asked = {
            "subject": ALICE,
            "resource": {"type": "account", "id": "123"},
            "action": {"name": "can_read", "properties": {"method": "GET"}},
            "context": {"time": "1985-10-26T01:22-07:00"},
        }
        answer = await client.post(EVALUATION, json=asked, headers={"X-Request-ID": "bfe9eb29-ab87"})
        assert (answer.status_code, answer.json()) == (200, {"decision": True})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "bfe9eb29-ab87"
        assert len(answer.headers["citadel-policy-version"]) == 32


async def test_a_denial_is_no_error() -> None:
    async with World().client() as client:
        answer = await client.post(EVALUATION, json=question("carol@example.com"))
        assert (answer.status_code, answer.json()) == (200, {"decision": False})


@pytest.mark.parametrize(
    "asked",
    [
        {"evaluations": [{"subject": BOB, "action": READ, "resource": document(name), "context": TIME}
                         for name in ("boxcarring.md", "subject-search.md", "resource-search.md")]},
        {"subject": BOB, "context": TIME, "evaluations": [{"action": READ, "resource": document(name)}
                         for name in ("boxcarring.md", "subject-search.md", "resource-search.md")]},
        {"subject": BOB, "context": TIME, "action": EDIT, "evaluations": [
            {"action": READ, "resource": document("boxcarring.md")},
            {"resource": document("subject-search.md")},
            {"action": READ, "resource": document("resource-search.md")}]},
        {"subject": ALICE, "evaluations": [{"subject": BOB, "action": READ, "resource": document(name)}
                         for name in ("boxcarring.md", "subject-search.md", "resource-search.md")]},
    ],
    ids=["no defaults", "a subject for all", "an action for those that have none", "a subject of its own"],
)  # fmt: skip
async def test_several_evaluations_are_answered_in_order(asked: dict[str, Any]) -> None:
    async with World().client() as client:
        answer = await client.post(EVALUATIONS, json=asked)
        assert answer.json() == {"evaluations": [{"decision": True}, {"decision": False}, {"decision": True}]}


@pytest.mark.parametrize(
    ("semantic", "subject", "decisions"),
    [
        ("execute_all", BOB, [True, False, True]),
        (None, BOB, [True, False, True]),
        ("deny_on_first_deny", BOB, [True, False]),
        ("deny_on_first_deny", ALICE, [True, True, True]),
        ("permit_on_first_permit", BOB, [True]),
        ("permit_on_first_permit", {"type": "user", "id": "carol@example.com"}, [False, False, False]),
    ],
)
async def test_a_semantic_may_stop_early(semantic: str | None, subject: dict[str, str], decisions: list[bool]) -> None:
    names = ("boxcarring.md", "subject-search.md", "resource-search.md")
    asked: dict[str, Any] = {"subject": subject, "action": READ}
    asked["evaluations"] = [{"resource": document(name)} for name in names]
    if semantic is not None:
        asked["options"] = {"evaluations_semantic": semantic, "another_option": "value"}
    async with World().client() as client:
        answer = await client.post(EVALUATIONS, json=asked)
        assert [one["decision"] for one in answer.json()["evaluations"]] == decisions


@pytest.mark.parametrize("more", [{}, {"evaluations": []}, {"evaluations": None}])
async def test_without_evaluations_it_is_one(more: dict[str, Any]) -> None:
    async with World().client() as client:
        assert (await client.post(EVALUATIONS, json=question() | more)).json() == {"decision": True}


async def test_one_that_makes_no_sense_denies_itself_alone_and_says_why() -> None:
    asked = question() | {
        "evaluations": [
            {"subject": {"type": "workload", "id": "spiffe://EXAMPLE/a"}},
            {"resource": document("1") | {"properties": {"workload": 7}}},
            {},
        ]
    }
    async with World().client() as client:
        first, second, third = (await client.post(EVALUATIONS, json=asked)).json()["evaluations"]
        assert [first["decision"], second["decision"], third] == [False, False, {"decision": True}]
        assert first["context"]["error"]["status"] == 400
        assert "is not a SPIFFE ID" in first["context"]["error"]["message"]
        assert "resource.properties.workload" in second["context"]["error"]["message"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"subject": None}, "subject"),
        ({"subject": {"type": "user"}}, "subject.id"),
        ({"subject": {"type": "user", "id": None}}, "subject.id"),
        ({"subject": {"type": "user", "id": 7}}, "subject.id"),
        ({"subject": {"type": "", "id": "x"}}, "subject.type"),
        ({"subject": "alice"}, "subject"),
        ({"subject": ALICE | {"properties": []}}, "subject.properties"),
        ({"action": {}}, "action.name"),
        ({"resource": {"id": "1"}}, "resource.type"),
        ({"context": "now"}, "context"),
        ({"subject": {"type": "workload", "id": "spiffe://example.org/a//b"}}, "subject.id"),
        ({"subject": {"type": "user", "id": "SPIFFE://example.org/ns/crm/sa/web"}}, "subject.id"),
        ({"subject": {"type": "user", "id": " spiffe://example.org/ns/crm/sa/web"}}, "subject.id"),
        ({"subject": ALICE | {"properties": {"jwt": 7}}}, "subject.properties.jwt"),
        ({"resource": document("1") | {"properties": {"workload": {"namespace": 1}}}}, "workload: namespace"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(change: dict[str, Any], place: str) -> None:
    async with World().client() as client:
        for path in (EVALUATION, EVALUATIONS):
            answer = await client.post(path, json=question() | change, headers={"X-Request-ID": "7"})
            assert answer.status_code == 400
            assert place in answer.json()
            assert answer.headers["x-request-id"] == "7"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"options": {"evaluations_semantic": "first_past_the_post"}}, "options.evaluations_semantic"),
        ({"options": {"evaluations_semantic": None}}, "options.evaluations_semantic"),
        ({"evaluations": [{"subject": None}]}, "evaluations.0.subject"),
        ({"evaluations": [{}, {"action": {"name": None}}]}, "evaluations.1.action.name"),
        ({"evaluations": {}}, "evaluations"),
        ({"evaluations": [{}] * 1001}, "evaluations"),
    ],
)
async def test_what_is_wrong_with_several_is_named(change: dict[str, Any], place: str) -> None:
    async with World().client() as client:
        answer = await client.post(EVALUATIONS, json=question() | change)
        assert answer.status_code == 400
        assert place in answer.json()


async def test_what_neither_the_top_nor_a_part_states_is_missing() -> None:
    async with World().client() as client:
        answer = await client.post(EVALUATIONS, json={"subject": ALICE, "evaluations": [{"action": READ}]})
        assert (answer.status_code, answer.json()) == (400, "evaluations.0.resource: it is missing")


async def test_unknown_members_are_ignored() -> None:
    asked = question() | {"x": 1, "subject": ALICE | {"y": {}}, "options": 7}
    async with World().client() as client:
        assert (await client.post(EVALUATION, json=asked)).json() == {"decision": True}


async def test_answers_say_why_if_that_is_wanted() -> None:
    world = World(rules=AuthzenRules(NamedWorkload(RECORDS), answers_say_why=True))
    async with world.client() as client:
        answer = (await client.post(EVALUATION, json=question(resource="document/secret"))).json()
        assert answer["decision"] is False
        context = answer["context"]
        assert (context["reason"], context["policy"]) == ("denied-by-policy", "crm/not-secret")
        assert context["version"]
        assert context["id"]


async def test_before_there_are_policies_all_is_denied() -> None:
    world = World(policies=None, rules=AuthzenRules(NamedWorkload(RECORDS), answers_say_why=True))
    async with world.client() as client:
        answer = (await client.post(EVALUATION, json=question())).json()
        assert (answer["decision"], answer["context"]["reason"]) == (False, "not-loaded")
        world.policies, world.entities = World().policies, None  # a directory that cannot be read, too
        assert (await client.post(EVALUATION, json=question())).json()["decision"] is False


async def test_metadata_name_every_call() -> None:
    async with World().client() as client:
        known = (await client.get("/.well-known/authzen-configuration")).json()
        assert known["policy_decision_point"] == "https://pdp.example.com"
        for name in ("access_evaluation", "access_evaluations", "search_subject", "search_resource", "search_action"):
            url = known[f"{name}_endpoint"]
            assert (await client.post(url, json={})).status_code == 400, url  # it is there
    async with World(searches=False).client() as client:
        known = (await client.get("/.well-known/authzen-configuration")).json()
        assert not [name for name in known if "search" in name]
        assert (await client.post("/access/v1/search/subject", json={})).status_code == 404
