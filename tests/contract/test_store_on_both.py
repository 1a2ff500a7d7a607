"""The store's promises, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from citadel.ca.model import IssuanceOutcome, Outcome, TrustBundle
from citadel.ca.ports import IssuanceQuery
from citadel.changes import Topic
from citadel.errors import Aborted, AlreadyExists, CitadelError, FailedPrecondition, InvalidInput, NewerDatabase
from citadel.registry.ports import Edit
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.registry import entry
from tests.support.store import chain_is_whole, event, intent

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TD = TrustDomain("example.org")


async def test_many_intents_at_once_are_all_on_record_and_in_the_chain(store: Store) -> None:
    await asyncio.gather(*(store.issuance.intend(intent(n), event(str(n))) for n in range(1, 201)))
    found = await store.issuance.find(IssuanceQuery(limit=500))
    assert {record.intent.serial for record in found} == set(range(1, 201))
    assert await chain_is_whole(store, "one") == 200


async def test_a_serial_is_used_once_and_its_neighbours_do_not_suffer(store: Store) -> None:
    await store.issuance.intend(intent(7), event())
    results = await asyncio.gather(
        *(store.issuance.intend(intent(n), event()) for n in (6, 7, 8)), return_exceptions=True
    )
    assert [type(r) for r in results] == [type(None), AlreadyExists, type(None)]


async def test_an_outcome_is_kept_and_what_has_none_is_found(store: Store) -> None:
    for n in (1, 2):
        await store.issuance.intend(intent(n), event())
    await store.issuance.settle(IssuanceOutcome(1, Outcome.ISSUED, "ab"))
    await store.issuance.intend(intent(3), event())  # the outcome is written with, or before, this one
    assert (await store.issuance.get(1)).outcome is Outcome.ISSUED
    assert {i.serial for i in await store.issuance.unsettled(NOW + timedelta(seconds=1))} == {2, 3}


async def test_what_was_written_is_there_after_it_was_opened_again(url: str) -> None:
    async with Store.open(url, writer="one") as first:
        await first.issuance.intend(intent(9), event())
        await first.issuance.settle(IssuanceOutcome(9, Outcome.ISSUED, "ab"))
    async with Store.open(url, writer="one") as second:
        assert (await second.issuance.get(9)).outcome is Outcome.ISSUED
        await second.issuance.intend(intent(10), event())
        assert await chain_is_whole(second, "one") == 2


async def test_a_bundle_grows_by_one_and_is_never_empty(store: Store) -> None:
    bundle = TrustBundle(TD, (b"\x30\x00",), 1, 300)
    await store.authorities.put_bundle(bundle, event())
    assert await store.authorities.bundle(TD) == bundle
    for wrong, error in ((bundle, Aborted), (TrustBundle(TD, (), 2, 300), InvalidInput)):
        with pytest.raises(error):
            await store.authorities.put_bundle(wrong, event())
    assert await store.authorities.bundle(TD) == bundle


async def test_a_change_is_announced_after_it_is_durable(store: Store) -> None:
    async with store.changes.subscribe([Topic.BUNDLES]) as news:
        await store.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), 1, 300), event())
        assert await asyncio.wait_for(anext(news), 5) is Topic.BUNDLES


async def test_another_trust_domains_database_is_refused(store: Store) -> None:
    await store.pin_trust_domain(TD)
    await store.pin_trust_domain(TD)
    with pytest.raises(FailedPrecondition, match="belongs to the trust domain"):
        await store.pin_trust_domain(TrustDomain("other.org"))


async def test_a_newer_programs_database_is_refused(url: str) -> None:
    async with Store.open(url, writer="one") as store, store._engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabase, match="newer Citadel"):
        async with Store.open(url, writer="one"):
            pass


@pytest.mark.postgres
async def test_one_server_hears_what_another_one_changed(postgres_url: str, url: str) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(CitadelError, match="another Citadel"):
            async with Store.open(url, writer="one"), Store.open(url, writer="two"):
                pass
        return
    async with (
        Store.open(url, writer="one") as one,
        Store.open(url, writer="two") as two,
        two.changes.subscribe([Topic.BUNDLES]) as news,
    ):
        await asyncio.wait_for(anext(news), 10)  # announced once when the listener is connected
        await one.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), 1, 300), event())
        assert await asyncio.wait_for(anext(news), 10) is Topic.BUNDLES


async def test_a_writer_or_reader_that_is_cancelled_at_any_moment_holds_up_nobody(store: Store) -> None:
    """A command that is ended by Ctrl-C cancels its call: the others must go on, and the chain stay whole."""
    clock = random.Random(7)
    for number in range(60):
        work = store.issuance.get(1) if number % 3 == 0 else store.pin_trust_domain(TD)
        task = asyncio.ensure_future(work)
        await asyncio.sleep(clock.random() * 0.004)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(5):
            await store.entries.edit(Edit(create=[(entry(f"e{number}"), event())]), NOW)
    assert await chain_is_whole(store, "one") == 60
