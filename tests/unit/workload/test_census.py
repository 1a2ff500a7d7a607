"""The census tells processes apart, and says of each when it has ended: once, and after the last of its streams."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.errors import ResourceExhausted
from citadel.workload.census import Census, CensusLimits, Last
from citadel.workload.peer import start_time

_SECONDS = 20.0


@dataclass(frozen=True)
class Child:
    running: subprocess.Popen[bytes]
    uid: int
    process: str

    @property
    def name(self) -> str:
        return f"pid {self.running.pid} uid {self.uid}"


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
        self.forgotten: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, client: str, uid: int, last: Last) -> None:
        assert f"@uid:{uid}/" in client
        (self.clients if last == "ended" else self.forgotten).append(client)
        self._news.set()

    async def news(self) -> list[str]:
        async with asyncio.timeout(_SECONDS):
            await self._news.wait()
        return self.clients


@asynccontextmanager
async def counting(
    limits: CensusLimits | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Census, Ended]]:
    ended = Ended()
    census = Census(ended, limits, clock=clock)
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
            census.left(client, held=True)
            assert ended.clients == []
            one.running.kill()
            assert await ended.news() == [client]


async def test_the_end_is_reported_after_the_last_stream_of_a_client() -> None:
    async with counting() as (census, ended):
        with child() as one:
            client = census.came("cart", one)
            census.came("cart", one)
            quiet = census.came("other", one)
            census.left(quiet, held=True)
            one.running.kill()
            assert await ended.news() == [quiet]
            census.left(client, held=True)
            assert ended.clients == [quiet]
            census.left(client, held=True)
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
            census.left(census.came("cart", one), held=True)
            one.running.kill()
            await ended.news()
        with child() as other:
            census.came("cart", other)
    assert _descriptors() == before


async def test_one_process_goes_by_a_bounded_number_of_names_and_another_has_its_own() -> None:
    async with counting(CensusLimits(per_process=2)) as (census, ended):
        with child() as one, child() as other:
            for name in ("a", "b"):
                census.left(census.came(name, one), held=True)
            with pytest.raises(ResourceExhausted, match=r"goes by 2 node ids already.*quota_clients_per_process"):
                census.came("c", one)
            census.came("a", one)
            census.came("c", other)
            assert ended.clients == ended.forgotten == []


async def test_all_processes_of_a_user_go_by_a_bounded_number_of_names() -> None:
    async with counting(CensusLimits(per_uid=2)) as (census, ended):
        with child() as one, child() as other:
            census.left(census.came("a", one), held=True)
            census.came("a", other)
            with pytest.raises(ResourceExhausted, match=r"2 node ids already.*quota_clients_per_uid"):
                census.came("b", other)
            census.came("b", replace(other, uid=other.uid + 1, process="2147483647.1"))
            one.running.kill()
            await ended.news()
            census.came("b", other)


async def test_a_name_that_was_given_nothing_takes_no_room() -> None:
    async with counting(CensusLimits(per_process=1)) as (census, ended):
        with child() as one:
            for number in range(3):
                census.left(census.came(f"n{number}", one), held=False)
            assert census.names == 0
        await asyncio.sleep(0.05)
        assert ended.clients == []


async def test_a_name_gives_way_when_nothing_that_it_got_can_be_valid_and_not_before() -> None:
    now = 0.0
    async with counting(CensusLimits(per_process=1, memory=timedelta(seconds=60)), lambda: now) as (census, ended):
        with child() as one:
            client = census.came("a", one)
            now = 1000.0
            with pytest.raises(ResourceExhausted):
                census.came("b", one)
            census.left(client, held=True)
            now += 59.0
            with pytest.raises(ResourceExhausted):
                census.came("b", one)
            now += 1.0
            census.came("b", one)
            assert (ended.clients, ended.forgotten) == ([], [client])


async def test_names_of_an_earlier_run_count_too() -> None:
    async with counting(CensusLimits(per_process=1)) as (census, _):
        with child() as one:
            census.remember([f"cart@uid:{one.uid}/pid:{one.process}"])
            with pytest.raises(ResourceExhausted):
                census.came("another", one)
            assert census.names == 1
