"""Whatever is sent: a clear answer in the specification's form, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from citadel.api.authzen.callers import NOBODY, Caller
from tests.unit.authzen.world import World, question

PATHS = ["/access/v1/evaluation", "/access/v1/evaluations",
         *(f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action"))]  # fmt: skip
JSON = {"Content-Type": "application/json", "X-Request-ID": "r-1"}


def said(answer: httpx.Response) -> str:
    assert answer.headers["x-request-id"] == "r-1"
    sentence = answer.json()
    assert isinstance(sentence, str)
    assert "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"subject=alice", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[" * 1000 + b"]" * 1000, "nested too deeply"),
        (b'{"context":' * 1000 + b"1" + b"}" * 1000, "nested too deeply"),
        (b'{"context":' + b"[" * 100_000, ""),
        (b'{"subject":{"type":"a","type":"b"}}', "twice"),
        (b'{"context":{"a":NaN}}', "NaN"),
        (b'{"context":{"a":1e999}}', "too large"),
        (b'{"context":{"a":' + b"9" * 5000 + b"}}", ""),
        (b'{"subject":{"type":"\\ud800","id":"x"}}', "surrogate"),
        (b"{}", "required"),
    ],
)
async def test_a_bad_body_is_a_400(path: str, body: bytes, why: str) -> None:
    async with World().client() as client:
        answer = await client.post(path, content=body, headers=JSON)
        assert answer.status_code == 400
        assert why.lower() in said(answer).lower() or "missing" in said(answer)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json-seq", "x"])
async def test_another_content_type_is_a_400(kind: str) -> None:
    async with World().client() as client:
        body = json.dumps(question()).encode()
        answer = await client.post(PATHS[0], content=body, headers=JSON | {"Content-Type": kind})
        assert answer.status_code == 400
        assert "Content-Type" in said(answer)
        charset = JSON | {"Content-Type": "Application/JSON; charset=utf-8"}
        assert (await client.post(PATHS[0], content=body, headers=charset)).json() == {"decision": True}


@pytest.mark.parametrize("known_length", [True, False])
async def test_a_huge_body_is_a_413(known_length: bool) -> None:
    body = json.dumps(question() | {"context": {"a": "x" * 5000}}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 100):
            yield body[at : at + 100]

    async with World(most_bytes=5000).client() as client:
        content = body if known_length else pieces()
        answer = await client.post(PATHS[0], content=content, headers=JSON)
        assert answer.status_code == 413
        assert "5000 bytes" in said(answer)
        small = json.dumps(question()).encode()
        assert (await client.post(PATHS[0], content=small, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATHS[0], 405), ("POST", "/x", 404), ("GET", "/", 404), ("POST", f"{PATHS[0]}/", 404)],
)
async def test_other_calls_are_refused_in_words(method: str, path: str, status: int) -> None:
    async with World().client() as client:
        answer = await client.request(method, path, headers=JSON)
        assert answer.status_code == status
        assert "call" in said(answer)


@pytest.mark.parametrize("caller", [NOBODY, Caller(frozenset({"uid:1001", "gid:1000"}), "uid 1001")])
async def test_nobody_is_let_in_who_is_not_named(caller: Caller) -> None:
    world = World(caller=caller)
    async with world.client() as client:
        for path in (*PATHS, "/.well-known/authzen-configuration", "/openapi.json"):
            answer = await client.post(path, json=question(), headers=JSON)
            assert answer.status_code == 403
            assert "authorization.authzen.allow" in said(answer)


async def test_a_defect_of_ours_is_a_500_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async with World().client() as client:
        monkeypatch.setattr("citadel.authz.doors.authzen.door.asked", lambda *_, **__: 1 / 0)
        answer = await client.post(PATHS[0], json=question(), headers=JSON)
        assert answer.status_code == 500
        assert "incident" in said(answer)
        assert "division" not in answer.text
