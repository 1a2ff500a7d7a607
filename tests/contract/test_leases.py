"""Leases (jobs.ports.Leases): in memory, and in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from citadel.jobs import Leases
from citadel.store.store import Store
from tests.support.jobs import MemoryLeases
from tests.support.postgres import new_database

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def leases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Leases]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryLeases()
        else:
            url = f"sqlite:///{tmp_path}/db/citadel.db"
            if request.param == "postgresql":
                url = await new_database(request.getfixturevalue("postgres_url"))
            store = await stack.enter_async_context(Store.open(url, writer="a"))
            yield store.leases


async def test_one_holds_a_lease_until_its_time_is_over(leases: Leases) -> None:
    assert await leases.acquire("job:prune", "a", NOW, MINUTE)
    assert not await leases.acquire("job:prune", "b", NOW + MINUTE / 2, MINUTE)
    assert await leases.acquire("job:prune", "b", NOW + MINUTE, MINUTE)
    assert not await leases.acquire("job:prune", "a", NOW + MINUTE, MINUTE)


async def test_one_that_was_taken_by_a_clock_that_was_set_back_is_not_held_until_that_comes_again(
    leases: Leases,
) -> None:
    day = timedelta(days=1)
    assert await leases.acquire("job:prune", "a", NOW + day, MINUTE)  # and killed
    assert await leases.acquire("job:prune", "b", NOW, MINUTE)
    assert await leases.acquire("job:expire", "a", NOW + 2 * MINUTE, MINUTE)
    assert not await leases.acquire("job:expire", "b", NOW, MINUTE), "clocks may differ a little"


async def test_its_holder_may_take_it_again(leases: Leases) -> None:
    assert await leases.acquire("job:prune", "a", NOW, MINUTE)
    assert await leases.acquire("job:prune", "a", NOW + MINUTE / 2, MINUTE)
    assert not await leases.acquire("job:prune", "b", NOW + MINUTE, MINUTE)


async def test_what_is_released_can_be_taken_and_nobody_releases_another_ones(leases: Leases) -> None:
    assert await leases.acquire("job:prune", "server_a", NOW, MINUTE)
    await leases.release("job:prune", "b")
    await leases.release("job:prune", "serverxa")
    assert not await leases.acquire("job:prune", "b", NOW, MINUTE)
    await leases.release("job:prune", "server_a")
    assert await leases.acquire("job:prune", "b", NOW, MINUTE)


async def test_leases_of_different_names_are_independent(leases: Leases) -> None:
    assert await leases.acquire("job:prune", "a", NOW, MINUTE)
    assert await leases.acquire("job:expire", "b", NOW, MINUTE)


async def test_of_many_who_ask_at_once_one_gets_it(leases: Leases) -> None:
    answers = await asyncio.gather(*(leases.acquire("job:prune", f"s{n}", NOW, MINUTE) for n in range(20)))
    assert answers.count(True) == 1
