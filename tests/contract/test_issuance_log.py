"""What ca.ports.IssuanceLog promises: in memory, and in the store on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.ca.model import IssuanceOutcome, Outcome, Skid
from citadel.ca.ports import IssuanceLog, IssuanceQuery
from citadel.errors import AlreadyExists, InvalidInput, NotFound, Unavailable
from citadel.registry.ports import Edit
from citadel.spiffe import SpiffeId
from citadel.store import Store
from tests.support.issuance import MemoryIssuanceLog
from tests.support.postgres import new_database
from tests.support.registry import entry
from tests.support.store import NOW, chain_is_whole, event, intent

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IssuanceLog]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryIssuanceLog()
            return
        url = f"sqlite:///{tmp_path}/db/citadel.db"
        if request.param == "postgresql":
            url = await new_database(request.getfixturevalue("postgres_url"))
        yield (await stack.enter_async_context(Store.open(url, writer="one"))).issuance


async def settled(log: IssuanceLog, serial: int, outcome: Outcome) -> None:
    """Wait until the outcome, which may lag, can be read."""
    async with asyncio.timeout(10):
        while (await log.get(serial)).outcome is not outcome:
            await asyncio.sleep(0.01)


async def test_many_intents_at_once_are_all_on_record(log: IssuanceLog) -> None:
    await asyncio.gather(*(log.intend(intent(n), event(str(n))) for n in range(1, 1201)))
    found = await log.find(IssuanceQuery(limit=5000))
    assert {record.intent.serial for record in found} == set(range(1, 1201))


async def test_an_intent_comes_back_whole(log: IssuanceLog) -> None:
    whole = replace(
        intent(2**128 - 1, spiffe_id="spiffe://example.org/a/b-c"),
        dns_names=("a.b", "c.d"),
        requester="spiffe://example.org/agent/1",
        not_after=NOW + timedelta(microseconds=3_600_000_001),
        at=NOW + timedelta(microseconds=1),
    )
    await log.intend(whole, event())
    record = await log.get(2**128 - 1)
    assert (record.intent, record.outcome, record.fingerprint, record.detail) == (whole, None, "", "")


async def test_a_serial_is_used_once_and_its_neighbours_do_not_suffer(log: IssuanceLog) -> None:
    await log.intend(intent(7), event())
    results = await asyncio.gather(
        *(log.intend(intent(n), event()) for n in (6, 7, 8, 9, 9, 10)), return_exceptions=True
    )
    assert [type(result) for result in results].count(AlreadyExists) == 2
    assert {type(results[n]) for n in (0, 2, 5)} == {type(None)}
    assert isinstance(results[1], AlreadyExists)
    assert {record.intent.serial for record in await log.find(IssuanceQuery())} == {6, 7, 8, 9, 10}


async def test_the_first_outcome_stays_but_unknown_gives_way(log: IssuanceLog) -> None:
    for serial in (1, 2):
        await log.intend(intent(serial), event())
    await log.settle(IssuanceOutcome(1, Outcome.ISSUED, "ab"))
    await log.settle(IssuanceOutcome(1, Outcome.FAILED, detail="late"))
    await log.settle(IssuanceOutcome(2, Outcome.UNKNOWN, detail="found at start"))
    await settled(log, 2, Outcome.UNKNOWN)
    await log.settle(IssuanceOutcome(2, Outcome.ISSUED, "cd"))
    await log.settle(IssuanceOutcome(999, Outcome.ISSUED, "ef"))  # never intended
    await settled(log, 2, Outcome.ISSUED)
    first, second = await log.get(1), await log.get(2)
    assert (first.outcome, first.fingerprint) == (Outcome.ISSUED, "ab")
    assert second.fingerprint == "cd"
    with pytest.raises(NotFound):
        await log.get(999)


async def test_what_has_no_outcome_is_found_if_it_is_old_enough(log: IssuanceLog) -> None:
    for serial, age in ((1, 0), (2, 10), (3, 20)):
        await log.intend(intent(serial, at=NOW - age * SECOND), event())
    await log.settle(IssuanceOutcome(3, Outcome.ISSUED, "ab"))
    await settled(log, 3, Outcome.ISSUED)
    assert {open_.serial for open_ in await log.unsettled(NOW + SECOND)} == {1, 2}
    assert {open_.serial for open_ in await log.unsettled(NOW - 5 * SECOND)} == {2}


async def test_a_caller_that_was_cancelled_holds_nobody_up(log: IssuanceLog) -> None:
    calls = [asyncio.create_task(log.intend(intent(n), event())) for n in range(1, 101)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [None] * 50
    assert {record.intent.serial for record in await log.find(IssuanceQuery(limit=500))} >= set(range(2, 101, 2))


async def test_pages_are_newest_first_and_hold_each_record_once(log: IssuanceLog) -> None:
    for serial in range(1, 26):
        await log.intend(intent(serial), event())
    seen: list[int] = []
    while page := await log.find(IssuanceQuery(limit=10, after=seen[-1] if seen else None)):
        seen += [record.intent.serial for record in page]
    assert seen == list(range(25, 0, -1))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (IssuanceQuery(spiffe_id=SpiffeId.parse("spiffe://example.org/a")), {1, 3}),
        (IssuanceQuery(authority=Skid("bb")), {2}),
        (IssuanceQuery(entry_id="e2"), {3}),
        (IssuanceQuery(serial_prefix="0" * 31), {1, 2, 3}),
        (IssuanceQuery(serial_prefix="0" * 31 + "2"), {2}),
        (IssuanceQuery(serial_prefix="1"), set()),
        (IssuanceQuery(live_at=NOW + timedelta(minutes=61)), {3}),
        (IssuanceQuery(expires_before=NOW + timedelta(minutes=61)), {1, 2}),
    ],
)
async def test_a_query_finds_what_it_says(log: IssuanceLog, query: IssuanceQuery, found: set[int]) -> None:
    await log.intend(intent(1, spiffe_id="spiffe://example.org/a"), event())
    await log.intend(replace(intent(2), authority=Skid("bb")), event())
    later = intent(3, at=NOW + timedelta(hours=1), spiffe_id="spiffe://example.org/a")
    await log.intend(replace(later, entry_id="e2"), event())
    assert {record.intent.serial for record in await log.find(query)} == found


# --- of the store alone


async def test_orphans_are_what_no_present_entry_has(store: Store) -> None:
    await store.entries.edit(Edit(create=[(entry("e1"), event("e1"))]), NOW)
    await store.issuance.intend(intent(1), event())
    await store.issuance.intend(replace(intent(2), entry_id="gone"), event())
    query = IssuanceQuery(orphaned=True, live_at=NOW)
    assert [record.intent.serial for record in await store.issuance.find(query)] == [2]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_no_database_holds_is_refused_and_spares_its_neighbours(store: Store, text: str) -> None:
    bad = [replace(intent(1), requester=text), replace(intent(2), entry_id=text), replace(intent(3), dns_names=(text,))]
    calls = [*(store.issuance.intend(one, event()) for one in bad), store.issuance.intend(intent(4), event())]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [InvalidInput] * 3 + [type(None)]
    await store.issuance.settle(IssuanceOutcome(4, Outcome.FAILED, detail=f"because of {text}"))
    await settled(store.issuance, 4, Outcome.FAILED)


async def test_each_record_has_its_link_in_the_chain(store: Store) -> None:
    calls = (store.issuance.intend(intent(n % 90), event(str(n))) for n in range(1, 101))
    await asyncio.gather(*calls, return_exceptions=True)
    assert await chain_is_whole(store, "one") == len(await store.issuance.find(IssuanceQuery(limit=500))) == 90


async def test_nothing_that_was_answered_or_settled_is_lost_by_a_graceful_stop(url: str) -> None:
    async with Store.open(url, writer="one") as first:
        await asyncio.gather(*(first.issuance.intend(intent(n), event()) for n in range(1, 51)))
        for serial in range(1, 51):
            await first.issuance.settle(IssuanceOutcome(serial, Outcome.ISSUED, "ab"))
    with pytest.raises(Unavailable, match="closed"):
        await first.issuance.intend(intent(51), event())
    async with Store.open(url, writer="one") as second:
        found = await second.issuance.find(IssuanceQuery(limit=500))
        assert [record.outcome for record in found] == [Outcome.ISSUED] * 50
        await second.issuance.intend(intent(52), event())
        assert await chain_is_whole(second, "one") == 51


async def test_pruning_takes_what_expired_and_was_settled_in_batches(store: Store) -> None:
    for serial in range(1, 8):
        await store.issuance.intend(intent(serial), event())
    await store.issuance.intend(intent(8, at=NOW + timedelta(days=1)), event())
    for serial in (1, 2, 3, 4, 5, 8):
        await store.issuance.settle(IssuanceOutcome(serial, Outcome.ISSUED, "ab"))
    await settled(store.issuance, 8, Outcome.ISSUED)
    before = NOW + timedelta(hours=2)
    assert [await store.issuance.prune(before, 3) for _ in range(3)] == [3, 2, 0]
    assert {record.intent.serial for record in await store.issuance.find(IssuanceQuery())} == {6, 7, 8}


@pytest.mark.postgres
async def test_servers_that_write_at_once_never_use_a_serial_twice(url: str) -> None:
    if url.startswith("sqlite"):
        pytest.skip("one process holds a SQLite")
    async with Store.open(url, writer="one") as one, Store.open(url, writer="two") as two:
        calls = [store.issuance.intend(intent(n), event()) for n in range(1, 301) for store in (one, two)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["AlreadyExists"] * 300 + ["NoneType"] * 300
        assert await chain_is_whole(one, "one") + await chain_is_whole(two, "two") == 300


async def test_a_certificate_with_another_serial_than_its_intent_is_on_record_under_its_own(log: IssuanceLog) -> None:
    await log.intend(intent(1), event("1"))
    await log.intend(intent(2), event("2"))
    given = 2**159 + 5  # as Vault makes them: longer than ours
    await log.settle_as(IssuanceOutcome(1, Outcome.ISSUED, "print"), given, event("1"))
    assert (await log.get(given)).outcome is Outcome.ISSUED
    assert (await log.get(given)).fingerprint == "print"
    with pytest.raises(NotFound):
        await log.get(1)
    with pytest.raises(AlreadyExists):
        await log.settle_as(IssuanceOutcome(2, Outcome.ISSUED, "print"), given, event("2"))
    assert (await log.get(2)).outcome is None
