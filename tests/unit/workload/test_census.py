"""The census tells processes apart, and says of each when it has ended: once, and after the last of its streams."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from citadel.workload.census import Census
from citadel.workload.peer import start_time

_SECONDS = 20.0


@dataclass(frozen=True)
class Child:
    running: subprocess.Popen[bytes]
    uid: int
    process: str


@contextmanager
def child() -> Iterator[Child]:
    """A process that lives until it is told to end."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        try:
            yield Child(running, os.getuid(), f"{running.pid}.{start_time(running.pid)}")
        finally:
            running.kill()


class Ended:
    def __init__(self) -> None:
        self.clients: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, client: str) -> None:
        self.clients.append(client)
        self._news.set()

    async def news(self) -> list[str]:
        async with asyncio.timeout(_SECONDS):
            await self._news.wait()
        return self.clients


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[Census, Ended]]:
    ended = Ended()
    census = Census(ended)
    try:
        yield census, ended
    finally:
        census.close()


async def test_two_processes_of_one_user_and_node_id_are_two_clients() -> None:
    async with counting() as (census, _):
        with child() as one, child() as other:
            names = {census.came("cart", one), census.came("cart", other), census.came("cart", one)}
            assert len(names) == 2
            assert all(name.startswith(f"cart@uid:{one.uid}/pid:") for name in names)


async def test_a_stream_that_ends_is_not_the_end_of_its_process() -> None:
    async with counting() as (census, ended):
        with child() as one:
            client = census.came("cart", one)
            census.left(client)
            assert ended.clients == []
            one.running.kill()
            assert await ended.news() == [client]


async def test_the_end_is_reported_after_the_last_stream_of_a_client() -> None:
    async with counting() as (census, ended):
        with child() as one:
            client = census.came("cart", one)
            census.came("cart", one)
            quiet = census.came("other", one)
            census.left(quiet)
            one.running.kill()
            assert await ended.news() == [quiet]
            census.left(client)
            assert ended.clients == [quiet]
            census.left(client)
            assert ended.clients == [quiet, client]


async def test_of_those_on_record_who_ended_meanwhile_is_reported_and_who_lives_is_watched() -> None:
    async with counting() as (census, ended):
        with child() as one, child() as other:
            other.running.kill()
            other.running.wait()
            lives, gone = (f"cart@uid:0/pid:{c.process}" for c in (one, other))
            reused = f"cart@uid:0/pid:{one.running.pid}.1"
            census.remember([lives, gone, reused, "from-before@uid:0", "odd/pid:x.y"])
            assert sorted(ended.clients) == sorted([gone, reused])
            one.running.kill()
            async with asyncio.timeout(_SECONDS):
                while lives not in ended.clients:
                    await asyncio.sleep(0.01)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_descriptors_are_given_back() -> None:
    before = _descriptors()
    async with counting() as (census, ended):
        with child() as one:
            census.left(census.came("cart", one))
            one.running.kill()
            await ended.news()
        with child() as other:
            census.came("cart", other)
    assert _descriptors() == before
