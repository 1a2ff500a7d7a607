"""The health and metrics port: what anybody on the machine does to it stays bounded."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass

import httpx
import pytest

from citadel.api import http
from citadel.api.http import HttpParts, serving


@dataclass(frozen=True)
class Well:
    live: bool = True
    ready: bool = True
    reasons: tuple[str, ...] = ()


async def well() -> Well:
    return Well()


PARTS = HttpParts(well, lambda: b"figures 1\n")


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
    monkeypatch.setattr(http, "_LIFE_SECONDS", 0.05)
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), AsyncExitStack() as stack, asyncio.timeout(10):
        reader = await silent(port, stack)
        assert await reader.read() == b""


async def test_one_connection_too_many_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_CONNECTIONS", 2)
    port = free_port()
    async with serving(PARTS, "127.0.0.1", port), AsyncExitStack() as stack, asyncio.timeout(10):
        kept = [await silent(port, stack) for _ in range(2)]
        assert await (await silent(port, stack)).read() == b""
        assert not any(reader.at_eof() for reader in kept)
