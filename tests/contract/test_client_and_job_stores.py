"""What store.ports promises of clients' holdings and of job runs, on both databases."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from citadel.changes import Topic
from citadel.errors import InvalidInput
from citadel.store import Store
from citadel.store.ports import JobRun
from citadel.store.records import ENDED_KEPT
from citadel.workload.upstream import AckKind, AckReport
from tests.support.store import NOW

HOUR = timedelta(hours=1)


def report(
    kind: AckKind, version: str, *, at: datetime = NOW, resource: str = "default", ends: datetime | None = None
) -> AckReport:
    return AckReport(
        at, "uid:0/web", "s1", kind, resource, "type", version, serial=f"of {version}", not_after=ends, detail="bad"
    )


async def test_the_newest_report_counts_and_what_is_acknowledged_is_what_is_held(store: Store) -> None:
    await store.clients.record("node", [report(AckKind.SENT, "1"), report(AckKind.ACK, "1")])
    await store.clients.record("node", [report(AckKind.NACK, "2", at=NOW + HOUR)])
    [held] = await store.clients.all()
    assert (held.version, held.acked_version, held.serial) == ("2", "1", "of 1")
    assert (held.acked_at, held.at, held.nack_detail) == (NOW, NOW + HOUR, "bad")
    await store.clients.record("node", [report(AckKind.ACK, "3", at=NOW + 2 * HOUR)])
    [held] = await store.clients.all()
    assert (held.acked_version, held.serial, held.nack_detail) == ("3", "of 3", "")


async def test_reports_of_many_resources_are_kept_apart_and_outlast_us(store: Store) -> None:
    await store.clients.record("node", [report(AckKind.ACK, "1", resource=name) for name in ("a", "b", "c")])
    await store.clients.record("other", [report(AckKind.ACK, "2", resource="a")])
    await store.clients.record("node", [])
    found = [(held.node, held.resource, held.acked_version) for held in await store.clients.all()]
    assert found == [("node", "a", "1"), ("node", "b", "1"), ("node", "c", "1"), ("other", "a", "2")]


async def test_what_was_not_heard_of_is_forgotten_unless_it_holds_something_unexpired(store: Store) -> None:
    await store.clients.record(
        "node",
        [
            report(AckKind.ACK, "1", resource="expired", ends=NOW),
            report(AckKind.ACK, "1", resource="valid", ends=NOW + 3 * HOUR),
            report(AckKind.ACK, "1", resource="bundle"),
            report(AckKind.ACK, "1", resource="heard", at=NOW + 2 * HOUR),
        ],
    )
    assert await store.clients.forget(NOW + HOUR) == 2
    assert [held.resource for held in await store.clients.all()] == ["heard", "valid"]


async def test_how_long_an_answer_is_due_counts_from_the_first_time_that_it_was_sent(store: Store) -> None:
    async def after(kind: AckKind, hours: int) -> datetime | None:
        await store.clients.record("node", [report(kind, "1", at=NOW + hours * HOUR)])
        return (await store.clients.all())[0].unanswered_since

    assert await after(AckKind.SENT, 0) == NOW
    assert await after(AckKind.GONE, 1) == NOW
    assert await after(AckKind.SENT, 2) == NOW
    assert await after(AckKind.ACK, 3) is None
    assert await after(AckKind.GONE, 4) is None
    assert await after(AckKind.SENT, 5) == NOW + 5 * HOUR
    assert await after(AckKind.NACK, 6) is None


def of(client: str, kind: AckKind, *, at: datetime = NOW, ends: datetime | None = None) -> AckReport:
    resource = "" if kind in (AckKind.ENDED, AckKind.FORGOTTEN) else "default"
    return AckReport(at, client, "s1", kind, resource, "type", "1", not_after=ends)


async def test_of_clients_that_have_ended_the_newest_are_kept_and_of_the_living_all(store: Store) -> None:
    ended = [f"{number:04d}" for number in range(ENDED_KEPT + 20)]
    await store.clients.record("node", [of("living", AckKind.ACK)])
    await store.clients.record("other", [of("x", AckKind.ACK), of("x", AckKind.ENDED)])
    for first in (0, 600):
        some = ended[first : first + 600]
        await store.clients.record("node", [of(name, AckKind.ACK) for name in some])
        ends = [of(name, AckKind.ENDED, at=NOW + timedelta(seconds=int(name))) for name in some]
        await store.clients.record("node", ends)
    kept = [(one.node, one.client) for one in await store.clients.all()]
    assert kept == [*(("node", name) for name in ended[20:]), ("node", "living"), ("other", "x")]


async def test_what_is_forgotten_goes_unless_it_holds_something_unexpired(store: Store) -> None:
    await store.clients.record(
        "node", [of("lapsed", AckKind.ACK, ends=NOW), of("valid", AckKind.ACK, ends=NOW + 2 * HOUR)]
    )
    forgotten = [of(name, AckKind.FORGOTTEN, at=NOW + HOUR) for name in ("lapsed", "valid", "never seen")]
    await store.clients.record("node", forgotten)
    assert [one.client for one in await store.clients.all()] == ["valid"]
    await store.clients.record("node", [of("lapsed", AckKind.ACK, at=NOW + HOUR)])
    assert [one.client for one in await store.clients.all()] == ["lapsed", "valid"], "it may come again"


async def test_pages_give_each_record_once_in_the_order_of_their_keys(store: Store) -> None:
    reports = [report(AckKind.ACK, "1", resource=f"r{number}") for number in range(5)]
    for node in ("a", "b"):
        await store.clients.record(node, reports)
    seen, after = [], None
    while page := await store.clients.page(3, after):
        after = (page[-1].node, page[-1].client, page[-1].resource)
        seen += page
    assert seen == await store.clients.all()
    assert len(seen) == 10


async def test_reports_are_announced(store: Store) -> None:
    async with store.changes.subscribe([Topic.CLIENTS]) as news:
        await store.clients.record("node", [report(AckKind.ACK, "1")])
        assert await asyncio.wait_for(anext(news), 5) is Topic.CLIENTS


async def test_the_newest_run_of_each_job_is_kept(store: Store) -> None:
    await store.jobs.record(JobRun("prune", NOW, NOW + HOUR, True, "3 deleted"))
    await store.jobs.record(JobRun("renew-ca", NOW, NOW, True))
    await store.jobs.record(JobRun("prune", NOW + HOUR, NOW + 2 * HOUR, False, "x" * 5000))
    last = await store.jobs.last()
    assert last == {
        "renew-ca": JobRun("renew-ca", NOW, NOW, True),
        "prune": JobRun("prune", NOW + HOUR, NOW + 2 * HOUR, False, "x" * 1000),
    }


async def test_a_zero_byte_is_what_is_wrong_and_not_the_database(store: Store) -> None:
    """SQLite takes it; PostgreSQL never does."""
    odd = AckReport(NOW, "a\0b", "s1", AckKind.ACK, "default", "type", "1")
    said = "written"
    try:
        await store.clients.record("node", [odd])
    except InvalidInput as error:
        said = error.message
    there = [one.client for one in await store.clients.all()]
    assert (said, there) in (
        ("written", ["a\0b"]),
        ("a text has a zero byte in it, which the database does not take", []),
    )
