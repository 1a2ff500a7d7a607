"""What audit.ports promises, on both databases; and what the notary and the auditor make of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import structlog

from citadel.audit import Checkpoint, Kind
from citadel.audit.auditor import Auditor
from citadel.audit.notary import Notary
from citadel.ca.kek import LocalKek
from citadel.errors import FailedPrecondition
from citadel.store import Store
from tests.support.issuance import SetClock
from tests.support.store import chain_is_whole, execute, issue

KEK = LocalKek(bytes(range(32)))


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


async def notary_of(store: Store, clock: SetClock, *, kek: LocalKek = KEK, every: int = 1000) -> Notary:
    notary = Notary(store.audit, store.audit, kek, clock, every=every)
    await notary.open()
    return notary


async def faults(store: Store, *outside: Checkpoint) -> list[str]:
    return [fault for report in await Auditor(store.audit, KEK).verify(outside) for fault in report.faults]


async def test_a_checkpoint_is_signed_once_kept_and_sent_to_the_log_stream(store: Store, clock: SetClock) -> None:
    notary = await notary_of(store, clock)  # the key's making is the first record
    await issue(store, 1, 2)
    with structlog.testing.capture_logs() as lines:
        made = await notary.checkpoint()
    assert made is not None
    assert (made.kind, made.writer, made.sequence) == (Kind.TIP, "one", 3)
    assert [line["checkpoint"] for line in lines if line["event"] == "audit checkpoint"] == [str(made)]
    assert await notary.checkpoint() is None
    assert await store.audit.checkpoints("one") == [made]
    [report] = await Auditor(store.audit, KEK).verify()
    assert (report.pruned, report.first, report.last, report.signed, report.faults) == (0, 1, 3, 3, ())


async def test_the_key_is_made_once_and_found_again(url: str, clock: SetClock) -> None:
    async with Store.open(url, writer="one") as store:
        await (await notary_of(store, clock)).checkpoint()
        [first] = await Auditor(store.audit, KEK).keys()
    async with Store.open(url, writer="one") as store:
        await issue(store, 1)
        assert await (await notary_of(store, clock)).checkpoint() is not None
        assert await Auditor(store.audit, KEK).keys() == [first]
        assert await faults(store) == []


async def test_without_its_key_encryption_key_nothing_is_signed_and_it_says_so(url: str, clock: SetClock) -> None:
    async with Store.open(url, writer="one") as store:
        await (await notary_of(store, clock)).checkpoint()
    async with Store.open(url, writer="one") as store:
        notary = await notary_of(store, clock, kek=LocalKek(bytes(32)))
        for asked in (notary.look, notary.checkpoint):
            with pytest.raises(FailedPrecondition, match="put back the key file"):
                await asked()


async def test_checkpoints_follow_when_the_chain_has_grown(store: Store, clock: SetClock) -> None:
    notary = await notary_of(store, clock, every=10)
    following = asyncio.create_task(notary.follow())
    try:
        await issue(store, *range(1, 10))
        async with asyncio.timeout(10):
            while not await store.audit.checkpoints("one"):
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
    [made] = await store.audit.checkpoints("one")
    assert made.sequence == 10


async def test_pruning_leaves_a_signed_base_and_a_chain_that_verifies(store: Store, clock: SetClock) -> None:
    notary = await notary_of(store, clock)
    await issue(store, *range(1, 25))
    old = await notary.checkpoint()
    clock.move(timedelta(days=2))
    await issue(store, *range(25, 30))
    new = await notary.checkpoint()
    assert old is not None
    assert new is not None
    assert await notary.prune(clock.now() - timedelta(days=1), 10) == old.sequence == 25
    assert await notary.prune(clock.now() - timedelta(days=1), 10) == 0
    lines = await store.audit.read("one", 0, 100)
    assert [line.sequence for line in lines] == list(range(26, 32))
    assert b'"action":"audit.prune"' in lines[-1].body
    [report] = await Auditor(store.audit, KEK).verify([old, new])
    assert (report.pruned, report.first, report.last, report.faults) == (25, 26, 31, ())
    assert [kept.kind for kept in await store.audit.checkpoints("one")] == [Kind.TIP, Kind.TIP, Kind.BASE]


async def test_a_chain_of_which_all_was_pruned_goes_on_where_it_was(url: str, clock: SetClock) -> None:
    async with Store.open(url, writer="gone") as store:
        notary = await notary_of(store, clock)
        await issue(store, 1, 2)
        await notary.checkpoint()
    clock.move(timedelta(days=2))
    async with Store.open(url, writer="one") as store:
        assert await (await notary_of(store, clock)).prune(clock.now(), 10) == 3
        assert await store.audit.read("gone", 0, 10) == []
        assert await store.audit.writers() == ["gone", "one"]
    async with Store.open(url, writer="gone") as store:
        await issue(store, 3)
        assert [line.sequence for line in await store.audit.read("gone", 0, 10)] == [4]
        assert await faults(store) == []


async def test_nothing_is_pruned_of_a_chain_that_is_not_intact(store: Store, url: str, clock: SetClock) -> None:
    notary = await notary_of(store, clock)
    await issue(store, *range(1, 9))
    await notary.checkpoint()
    await execute(url, "UPDATE audit SET body = hash WHERE sequence = 3")
    clock.move(timedelta(days=2))
    with pytest.raises(FailedPrecondition, match="not intact and was not pruned: record 3 was altered"):
        await notary.prune(clock.now(), 10)
    assert len(await store.audit.read("one", 0, 100)) == 9


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET body = hash WHERE sequence = 3", "record 3 was altered"),
        ("UPDATE audit SET body = 'x' WHERE sequence = 3", "record 3 was altered"),  # SQLite keeps it as text
        ("DELETE FROM audit WHERE sequence IN (3, 4)", "records 3 to 4 are missing"),
        ("DELETE FROM audit WHERE sequence = 1", "record 1 is missing"),
        ("DELETE FROM audit WHERE sequence > 4", "the end is missing: record 6 was signed for"),
        ("DELETE FROM audit", "the end is missing"),
        ("UPDATE audit_checkpoints SET hash = signature", "forged"),
        ("UPDATE audit_checkpoints SET sequence = 2", "forged"),
        ("UPDATE audit_checkpoints SET base = NOT base", "forged"),
        ("UPDATE audit_keys SET ciphertext = public", "unknown key"),
    ],
)
async def test_what_somebody_does_to_the_tables_is_evident(
    store: Store, url: str, clock: SetClock, statement: str, fault: str
) -> None:
    notary = await notary_of(store, clock)
    await issue(store, *range(1, 6))
    await notary.checkpoint()
    await issue(store, 6)
    await execute(url, statement)
    assert fault in (await faults(store))[0]


async def test_a_tail_that_was_cut_off_with_its_checkpoints_shows_against_one_from_the_log(
    store: Store, url: str, clock: SetClock
) -> None:
    notary = await notary_of(store, clock)
    await issue(store, *range(1, 6))
    kept = await notary.checkpoint()
    assert kept is not None
    await execute(url, "DELETE FROM audit WHERE sequence > 4", "DELETE FROM audit_checkpoints")
    assert await faults(store) == []
    assert "record 6 was signed for, and the chain ends at 4" in (await faults(store, kept))[0]


async def test_a_chain_that_was_cut_while_we_were_down_is_told_at_start(url: str, clock: SetClock) -> None:
    async with Store.open(url, writer="one") as store:
        notary = await notary_of(store, clock)
        await notary.look()
        await issue(store, 1, 2, 3)
        await notary.checkpoint()
    await execute(url, "DELETE FROM audit WHERE sequence = 4")
    async with Store.open(url, writer="one") as store:
        with pytest.raises(FailedPrecondition, match="the audit log is not intact: the end is missing"):
            await (await notary_of(store, clock)).look()


async def test_what_a_transaction_took_back_is_no_part_of_the_chain(store: Store) -> None:
    await issue(store, 1, 2)
    tip = store.audit.tip()
    await asyncio.gather(*(issue(store, n) for n in (1, 3, 2)), return_exceptions=True)
    assert tip is not None
    assert tip[0] == 2
    assert await chain_is_whole(store, "one") == 3


async def test_a_key_that_was_slipped_in_is_not_trusted(store: Store, url: str, clock: SetClock) -> None:
    other = await notary_of(store, clock, kek=LocalKek(bytes(32)))
    await issue(store, 1)
    await other.checkpoint()
    assert "unknown key" in (await faults(store))[0]
