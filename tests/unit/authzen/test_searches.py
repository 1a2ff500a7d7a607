"""Searches and their pages (Authorization API 1.0, 8)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from citadel.authz.doors.authzen import door
from citadel.authz.entities import Actor, Entity, EntityDirectory
from tests.unit.authzen.world import World, question

SUBJECT, RESOURCE, ACTION = (f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action"))
ALICE = {"type": "user", "id": "alice@example.com"}


def accounts(*names: str) -> list[dict[str, str]]:
    return [{"type": "account", "id": name} for name in names]


@pytest.mark.parametrize(
    ("path", "asked", "results"),
    [
        (SUBJECT, {"subject": {"type": "user"}, "action": {"name": "can_read"}, "resource": accounts("123")[0],
                   "context": {"time": "2024-10-26T01:22-07:00"}},
         [ALICE, {"type": "user", "id": "bob@example.com"}]),
        (SUBJECT, {"subject": {"type": "user", "id": ["ignored"]}, "action": {"name": "can_read"},
                   "resource": accounts("456")[0]}, [ALICE]),
        (SUBJECT, {"subject": {"type": "workload"}, "action": {"name": "can_read"}, "resource": accounts("1")[0]},
         [{"type": "workload", "id": "spiffe://example.org/ns/crm/sa/web"}]),
        (SUBJECT, {"subject": {"type": "robot"}, "action": {"name": "can_read"}, "resource": accounts("1")[0]}, []),
        (RESOURCE, {"subject": ALICE, "action": {"name": "can_read"}, "resource": {"type": "account"}},
         accounts("123", "456", "789")),
        (RESOURCE, {"subject": {"type": "user", "id": "bob@example.com"}, "action": {"name": "can_read"},
                    "resource": {"type": "account", "id": "456"}}, accounts("123", "789")),
        (RESOURCE, {"subject": ALICE, "action": {"name": "open"}, "resource": {"type": "account"}}, accounts("123")),
        (ACTION, {"subject": ALICE, "resource": accounts("123")[0], "context": {"time": "2024-10-26T01:22-07:00"}},
         [{"name": "can_edit"}, {"name": "can_read"}, {"name": "open"}]),
        (ACTION, {"subject": ALICE, "resource": {"type": "todo", "id": "1", "properties": {"state": "public"}}},
         [{"name": "can_edit"}, {"name": "can_read"}]),
        (ACTION, {"subject": ALICE, "resource": accounts("123")[0], "context": {"network": "guest"}}, []),
    ],
)  # fmt: skip
async def test_a_search_finds_what_an_evaluation_would_allow(
    path: str, asked: dict[str, Any], results: list[dict[str, str]]
) -> None:
    async with World().client() as client:
        answer = await client.post(path, json=asked)
        assert (answer.status_code, answer.json()) == (200, {"results": results})


async def pages(client: httpx.AsyncClient, path: str, asked: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """All pages, the next one asked for with the token alone, as in the specification's example."""
    found = [(await client.post(path, json=asked | {"page": {"limit": limit}})).json()]
    while token := found[-1]["page"]["next_token"]:
        found.append((await client.post(path, json=asked | {"page": {"token": token}})).json())
        assert len(found) < 100
    return found


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1, 1, 1, 0]), (2, [2, 1]), (3, [3, 0]), (4, [3])])
async def test_pages_come_to_the_whole(limit: int, sizes: list[int]) -> None:
    directory = EntityDirectory([Entity("account", name) for name in ("123", "456", "789", "zzz")])
    asked = {"subject": {"type": "user", "id": "bob@example.com"}, "action": {"name": "can_read"},
             "resource": {"type": "account"}}  # fmt: skip
    async with World(entities=directory).client() as client:
        found = await pages(client, RESOURCE, asked, limit)
        assert [one for page in found for one in page["results"]] == accounts("123", "789", "zzz")
        assert [page["page"]["count"] for page in found] == sizes or sum(sizes) == 3
        assert all(len(page["results"]) == page["page"]["count"] <= limit for page in found)


async def test_an_entity_about_which_no_question_makes_sense_is_no_result_and_hides_no_other() -> None:
    odd = {"workload": "no SPIFFE ID"}
    directory = EntityDirectory([Entity("account", "1", odd), Entity("account", "2"), Entity("odd", "1", odd)])
    asked = {"subject": ALICE, "action": {"name": "can_read"}, "resource": {"type": "account"}}
    async with World(entities=directory).client() as client:
        assert (await client.post(RESOURCE, json=asked)).json()["results"] == accounts("2")
        answer = await client.post(RESOURCE, json=asked | {"resource": {"type": "odd"}})
        assert (answer.status_code, "properties.workload" in answer.json()) == (400, True)
        wrong = {"type": "workload", "id": "spiffe://example.org//"}
        assert (await client.post(RESOURCE, json=asked | {"subject": wrong})).status_code == 400


async def test_a_page_goes_through_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_LOOKED_AT", 3)
    names = [f"{number:02}" for number in range(10)]
    directory = EntityDirectory(
        [Entity("account", name, {"state": "public"} if name == "07" else {}) for name in names]
    )
    asked = {"subject": {"type": "user", "id": "x"}, "action": {"name": "open"}, "resource": {"type": "account"}}
    async with World(entities=directory).client() as client:
        found = await pages(client, RESOURCE, asked, 5)
        assert [one for page in found for one in page["results"]] == accounts("07")
        assert len(found) == 4
        without = (await client.post(RESOURCE, json=asked)).json()
        assert without["page"]["next_token"]  # there is more, so it says so though no page was asked for


async def test_actions_have_pages_too() -> None:
    directory = EntityDirectory(actions=[Actor("can_read"), Actor("can_edit"), Actor("x")])
    async with World(entities=directory).client() as client:
        asked = {"subject": ALICE, "resource": accounts("1")[0]}
        found = await pages(client, ACTION, asked, 1)
        assert [one for page in found for one in page["results"]] == [{"name": "can_read"}]


async def test_a_token_belongs_to_its_search() -> None:
    asked = {"subject": ALICE, "action": {"name": "can_read"}, "resource": {"type": "account"}}
    async with World().client() as client:
        token = (await client.post(RESOURCE, json=asked | {"page": {"limit": 1}})).json()["page"]["next_token"]
        for other in (
            asked | {"action": {"name": "open"}, "page": {"token": token}},
            asked | {"context": {"a": 1}, "page": {"token": token}},
            asked | {"page": {"token": token, "limit": 2}},
            asked | {"page": {"token": token[:-3]}},
            asked | {"page": {"token": "W10="}},
            asked | {"page": {"token": "x" * 100_000}},
        ):
            answer = await client.post(RESOURCE, json=other)
            assert answer.status_code == 400
            assert "page.token" in answer.json()
        assert (await client.post(RESOURCE, json=asked | {"page": {"token": token, "limit": 1}})).status_code == 200
        again = asked | {"resource": {"type": "account", "id": "ignored"}, "page": {"token": token}}
        assert (await client.post(RESOURCE, json=again)).status_code == 200


@pytest.mark.parametrize("page", [{"limit": -1}, {"limit": "1"}, {"limit": 1.5}, {"token": 7}, []])
async def test_a_page_that_is_none_is_refused(page: Any) -> None:
    async with World().client() as client:
        asked = question() | {"page": page}
        for path in (SUBJECT, RESOURCE, ACTION):
            answer = await client.post(path, json=asked)
            assert answer.status_code == 400
            assert "page" in answer.json()


async def test_nothing_is_found_before_there_are_policies_and_entities() -> None:
    for world in (World(policies=None), World(entities=None)):
        async with world.client() as client:
            answer = await client.post(ACTION, json=question())
            assert answer.status_code == 503
            assert "yet" in answer.json()
