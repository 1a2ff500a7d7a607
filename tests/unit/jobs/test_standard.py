"""What the standard jobs do and say."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from citadel.errors import InvalidInput
from citadel.jobs.standard import Retention, expire_entries, plugged_ca, prune, renew_ca
from tests.support.clock import ManualClock

MINUTE = timedelta(minutes=1)


class Server:
    """Counts what is asked of it; its log has `old` records that may go, its registry `over` entries."""

    def __init__(self, *, due: bool = False, over: int = 0, old: int = 0, silent: int = 0) -> None:
        self.due, self.over, self.old, self.silent = due, over, old, silent
        self.reloads = 0
        self.batches: list[tuple[datetime, int]] = []
        self.forgot_before: datetime | None = None
        self.removed_before: datetime | None = None
        self.removed = 0

    async def renew_if_due(self) -> bool:
        return self.due

    async def reload_plugged(self) -> None:
        self.reloads += 1

    async def expire(self) -> int:
        return self.over

    async def prune(self, before: datetime, limit: int) -> int:
        deleted = min(self.old, limit)
        self.old -= deleted
        self.batches.append((before, limit))
        return deleted

    async def forget(self, before: datetime) -> int:
        self.forgot_before = before
        return self.silent

    async def forget_removed(self, before: datetime) -> int:
        self.removed_before = before
        return self.removed


@pytest.mark.parametrize(("due", "said"), [(True, "the issuing CA was renewed"), (False, "")])
async def test_a_renewal_is_said_only_when_there_was_one(due: bool, said: str) -> None:
    assert await renew_ca(Server(due=due), MINUTE).run() == said


async def test_expired_entries_are_counted() -> None:
    assert await expire_entries(Server(over=3), MINUTE).run() == "3 entries deleted"
    assert await expire_entries(Server(), MINUTE).run() == ""


async def test_plugged_in_files_are_looked_at_on_each_server_and_the_rest_is_done_by_one() -> None:
    server = Server()
    looks = plugged_ca(server, MINUTE)
    assert await looks.run() == ""
    assert (server.reloads, looks.cluster) == (1, False)
    assert renew_ca(server, MINUTE).cluster
    assert expire_entries(server, MINUTE).cluster


async def test_pruning_goes_on_in_batches_until_nothing_is_old_and_keeps_what_the_newest_settings_say() -> None:
    server, audit, clock = Server(old=2500, silent=2), Server(old=7), ManualClock()
    kept = [Retention(timedelta(days=1), timedelta(days=2), timedelta(days=3), batch=1000)]
    job = prune(server, server, audit, server, clock, lambda: kept[-1], MINUTE)
    assert await job.run() == "2500 issuance records deleted, 2 clients' records deleted, 7 audit records deleted"
    assert audit.batches == [(clock.now() - timedelta(days=3), 1000)]
    assert server.batches == [(clock.now() - timedelta(days=1), 1000)] * 4
    assert server.forgot_before == clock.now() - timedelta(days=2)
    assert server.removed_before == clock.now() - timedelta(days=1)
    server.removed = 1
    assert await job.run() == "2 clients' records deleted, 1 removed issuing CAs deleted"
    kept.append(Retention(timedelta(days=9), timedelta(days=9), timedelta(days=9)))
    await job.run()
    assert server.batches[-1][0] == clock.now() - timedelta(days=9)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be 1 or more"):
        Retention(MINUTE, MINUTE, MINUTE, batch=0)
