"""What store.ports promises of clients' holdings and of job runs, on both databases."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from citadel.changes import Topic
from citadel.store import Store
from citadel.store.ports import JobRun
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
