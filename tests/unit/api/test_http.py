"""The health and metrics port: what anybody on the machine does to it stays bounded."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest

from citadel.api import http
from citadel.api.http import HttpParts, serving
from citadel.errors import FailedPrecondition
from tests.support.waiting import free_port


@dataclass(frozen=True)
class Well:
    live: bool = True
    ready: bool = True
    reasons: tuple[str, ...] = ()


async def well() -> Well:
    return Well()


PARTS = HttpParts(well, lambda: b"figures 1\n")


async def silent(port: int, stack: AsyncExitStack) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    return reader


async def test_it_answers() -> None:
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
        assert (await client.get("/metrics")).content == b"figures 1\n"


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BOUNDS", replace(http._BOUNDS, life_seconds=0.05))
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), AsyncExitStack() as stack, asyncio.timeout(10):
        reader = await silent(port, stack)
        assert await reader.read() == b""


async def test_one_connection_too_many_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BOUNDS", replace(http._BOUNDS, connections=2))
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), AsyncExitStack() as stack, asyncio.timeout(10):
        kept = [await silent(port, stack) for _ in range(2)]
        assert await (await silent(port, stack)).read() == b""
        assert not any(reader.at_eof() for reader in kept)


async def test_connections_that_ask_for_nothing_keep_no_probe_from_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BOUNDS", replace(http._BOUNDS, requests=1))
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), AsyncExitStack() as stack, asyncio.timeout(10):
        for _ in range(3):
            await silent(port, stack)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/livez")).status_code == 200


async def test_one_request_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BOUNDS", replace(http._BOUNDS, requests=1))
    looked_at, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> Well:
        looked_at.set()
        await may_end.wait()
        return Well()

    port = free_port()
    parts = HttpParts(slow, lambda: b"")
    async with serving(parts, "127.0.0.1", port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            first = group.create_task(client.get("/livez"))
            await looked_at.wait()
            assert (await client.get("/livez")).status_code == 503
            may_end.set()
        assert first.result().status_code == 200


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"127.0.0.1:{port} cannot be listened on"):
            async with serving(PARTS, "127.0.0.1", port):
                pass
