"""The registry with many entries, in CPU time: what one change costs, a page, a search, ten thousand at once."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import uvloop

from citadel.cli.process import collect_seldom, settle_memory
from citadel.clock import SystemClock
from citadel.registry import Entry, Registry, RegistryPolicy
from citadel.registry.ports import EntryQuery, Match
from citadel.registry.roster import Roster
from citadel.store import Store
from tests.bench.row import Row
from tests.support.registry import NODE, TD, entry

_PRESENT = (20_000, 100_000)
_MANY = 10_000
_TIMES = 20


def rows() -> list[Row]:
    collect_seldom()
    return [row for present in _PRESENT for row in uvloop.run(_rows(present))]


async def _rows(present: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with Store.open(f"sqlite:///{Path(folder) / 'd' / 'citadel.db'}", writer="bench") as store:
            policy = RegistryPolicy(timedelta(seconds=1), timedelta(days=1))
            registry = Registry(store.entries, TD, SystemClock(), policy)
            for start in range(0, present, _MANY):
                await registry.create(_entries(range(start, start + _MANY), ""), "bench")
            settle_memory()
            found = await _measure(registry, store, present)
            gc.unfreeze()
            return found


async def _measure(registry: Registry, store: Store, present: int) -> list[Row]:
    def row(what: str, seconds: float, unit: str) -> Row:
        return Row(f"{present} entries: {what}", seconds * (1000 if unit == "ms" else 1), unit)

    numbers = iter(range(present, 10 * present))
    alike = EntryQuery(selectors=(entry("x", "unix:uid:7", "unix:path:/usr/bin/app").selectors, Match.SUBSET))

    async def one() -> None:
        await registry.create(_entries([next(numbers)], ""), "bench")

    async def update(hint: str) -> None:
        wanted = [replace(e, hint=hint) for e in _entries(range(_MANY), "set")]
        await registry.apply(wanted, "set", "bench")

    roster = Roster()
    news = await store.entries.news(None)
    roster.update(news, SystemClock().now())
    node, position = roster.node(NODE), news.position

    async def hear() -> None:
        nonlocal position
        await one()
        began = time.process_time()
        told = await store.entries.news(position)
        roster.update(told, SystemClock().now())
        position = told.position
        heard.append(time.process_time() - began)
        assert node.entries

    heard: list[float] = []
    await _each(hear)
    return [
        row("one is created", await _each(one), "ms"),
        row("the change reaches the roster", sorted(heard)[len(heard) // 2], "ms"),
        row("a page of 500", await _each(lambda: registry.find(EntryQuery(limit=500, after="w5"))), "ms"),
        row("found by its selectors", await _each(lambda: registry.find(alike)), "ms"),
        row(f"{_MANY} are applied in one transaction", await _once(update("a")), "s"),
        row(f"{_MANY} are applied again, unchanged", await _once(update("a")), "s"),
        row(f"{_MANY} are changed in one transaction", await _once(update("b")), "s"),
        row("all are read, as at a start", await _once(store.entries.news(None)), "s"),
    ]


def _entries(numbers: Iterable[int], name: str) -> list[Entry]:
    return [entry(f"w{name}{n}", f"unix:uid:{n}", "unix:path:/usr/bin/app", labels=(("app", "w"),)) for n in numbers]


async def _each(work: Callable[[], Awaitable[object]]) -> float:
    """CPU seconds of one of many."""
    began = time.process_time()
    for _ in range(_TIMES):
        await work()
    return (time.process_time() - began) / _TIMES


async def _once(work: Awaitable[object]) -> float:
    began = time.process_time()
    await work
    return time.process_time() - began
