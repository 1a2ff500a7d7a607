"""Jobs over the real scheduler: what runs when, what is written down, and what never stops the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from citadel.clock import Clock, SystemClock
from citadel.errors import InvalidInput, Unavailable
from citadel.jobs import Cron, Every, Job, JobRun, Jobs
from tests.support.jobs import MemoryJobStore, MemoryLeases
from tests.support.waiting import until

HOUR = timedelta(hours=1)
SOON = timedelta(milliseconds=30)


class Work:
    """A job's body that counts, and can be held up."""

    def __init__(self, detail: str = "", error: Exception | None = None) -> None:
        self.runs = 0
        self.at_once = 0
        self.most_at_once = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._detail = detail
        self._error = error

    async def __call__(self) -> str:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go_on.wait()
            if self._error:
                raise self._error
            return self._detail
        finally:
            self.at_once -= 1


@asynccontextmanager
async def started(
    store: MemoryJobStore, *jobs: Job, server: str = "local", leases: MemoryLeases | None = None
) -> AsyncIterator[Jobs]:
    running = Jobs(store, SystemClock(), jobs, server=server, leases=leases)
    await running.start()
    try:
        yield running
    finally:
        await running.stop(timedelta(milliseconds=50))


def ran(name: str, ago: timedelta) -> JobRun:
    at = datetime.now(UTC) - ago
    return JobRun(name, at, at, True)


async def test_a_job_that_never_ran_runs_at_once_and_its_run_is_written_down() -> None:
    store, work = MemoryJobStore(), Work("renewed the issuing CA")
    async with started(store, Job("renew-ca", Every(HOUR), work)) as jobs:
        await until(lambda: bool(store.runs))
        [status] = await jobs.status()
    assert (store.runs[0].ok, store.runs[0].detail) == (True, "renewed the issuing CA")
    assert status.last_ok is True
    assert status.last_detail == "renewed the issuing CA"
    assert status.next_run_at is not None
    assert timedelta(minutes=59) < status.next_run_at - datetime.now(UTC) <= HOUR


async def test_what_was_missed_while_down_is_made_up_once() -> None:
    store, work = MemoryJobStore(), Work()
    store.runs.append(ran("prune@local", ago=10 * HOUR))
    async with started(store, Job("prune", Every(HOUR), work)):
        await until(lambda: len(store.runs) == 2)
        await asyncio.sleep(0.05)
    assert work.runs == 1


async def test_what_ran_a_moment_ago_is_not_run_again_by_a_restart() -> None:
    store, work = MemoryJobStore(), Work()
    store.runs.append(ran("prune@local", ago=timedelta(minutes=20)))
    async with started(store, Job("prune", Every(HOUR), work)) as jobs:
        [status] = await jobs.status()
    assert work.runs == 0
    assert status.next_run_at is not None
    assert abs(status.next_run_at - datetime.now(UTC) - timedelta(minutes=40)) < timedelta(seconds=10)


async def test_a_last_run_in_the_future_does_not_keep_a_job_waiting_for_it() -> None:
    store, work = MemoryJobStore(), Work()
    store.runs.append(ran("prune@local", ago=-100 * HOUR))
    async with started(store, Job("prune", Every(HOUR), work)):
        await until(lambda: work.runs == 1)


async def test_a_missed_crontab_moment_is_made_up_and_one_that_was_kept_is_not() -> None:
    store, missed, kept = MemoryJobStore(), Work(), Work()
    store.runs += [ran("missed@local", ago=timedelta(days=2)), ran("kept@local", ago=timedelta(0))]
    async with started(store, Job("missed", Cron("0 3 * * *"), missed), Job("kept", Cron("0 3 * * *"), kept)):
        await until(lambda: missed.runs == 1)
    assert kept.runs == 0


async def test_a_slow_job_never_runs_twice_at_once() -> None:
    store, work = MemoryJobStore(), Work()
    work.go_on.clear()
    async with started(store, Job("slow", Every(SOON), work)):
        await until(lambda: work.runs == 1)
        await asyncio.sleep(SOON.total_seconds() * 5)
        assert work.runs == 1
        work.go_on.set()
        await until(lambda: work.runs >= 3)
    assert work.most_at_once == 1


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Unavailable("the database does not answer", mend="start it"), "the database does not answer; start it"),
        (ZeroDivisionError("secret detail"), "a defect (ZeroDivisionError); the log has the rest"),
    ],
)
async def test_a_job_that_fails_is_written_down_and_runs_again(error: Exception, detail: str) -> None:
    store, broken, sound = MemoryJobStore(), Work(error=error), Work()
    async with started(store, Job("broken", Every(SOON), broken), Job("sound", Every(SOON), sound)):
        await until(lambda: broken.runs >= 3 and sound.runs >= 3)
    run = next(run for run in store.runs if run.name == "broken@local")
    assert (run.ok, run.detail) == (False, detail)


async def test_a_job_that_hangs_is_cut_off_and_said_to_be() -> None:
    store, work = MemoryJobStore(), Work()
    work.go_on.clear()
    async with started(store, Job("hangs", Every(HOUR), work, timeout=SOON)):
        await until(lambda: bool(store.runs))
    assert (store.runs[0].ok, store.runs[0].detail) == (False, "it was not done after 0.03 s")
    assert work.at_once == 0


async def test_stopping_waits_for_what_runs() -> None:
    store, work = MemoryJobStore(), Work("done")
    work.go_on.clear()
    jobs = Jobs(store, SystemClock(), [Job("slow", Every(HOUR), work)])
    await jobs.start()
    await until(lambda: work.runs == 1)
    stopping = asyncio.create_task(jobs.stop(timedelta(seconds=5)))
    await asyncio.sleep(0.02)
    work.go_on.set()
    await stopping
    assert [(run.ok, run.detail) for run in store.runs] == [(True, "done")]


async def test_stopping_cuts_off_what_does_not_end_and_writes_that_down() -> None:
    store, work = MemoryJobStore(), Work()
    work.go_on.clear()
    async with started(store, Job("stuck", Every(HOUR), work)):
        await until(lambda: work.runs == 1)
    assert [(run.ok, run.detail) for run in store.runs] == [(False, "it was stopped")]
    assert work.at_once == 0


class SlowLeases(MemoryLeases):
    """A database that takes its time over a lease."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def acquire(self, name: str, holder: str, now: datetime, duration: timedelta) -> bool:
        self.asked += 1
        await asyncio.sleep(3600)
        return True


@pytest.mark.parametrize("waits_for_its_lease", [True, False])
async def test_being_stopped_is_no_error_and_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture, waits_for_its_lease: bool
) -> None:
    work, leases = Work(), SlowLeases() if waits_for_its_lease else MemoryLeases()
    work.go_on.clear()
    async with started(MemoryJobStore(), Job("expire", Every(HOUR), work, cluster=True), leases=leases):
        await until(lambda: bool(work.runs or getattr(leases, "asked", 0)))
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL") or record.exc_info] == []
    assert work.at_once == 0


async def test_a_store_that_does_not_answer_stops_no_job() -> None:
    store, work = MemoryJobStore(), Work()
    async with started(store, Job("look", Every(SOON), work)) as jobs:
        await until(lambda: work.runs == 1)
        store.down = True
        await until(lambda: work.runs >= 4)
        assert (await jobs.status())[0].last_ok is True


async def test_of_two_servers_one_runs_a_cluster_job() -> None:
    store, leases, first, second = MemoryJobStore(), MemoryLeases(), Work(), Work()
    first.go_on.clear()
    second.go_on.clear()
    async with (
        started(store, Job("expire", Every(HOUR), first, cluster=True), server="a", leases=leases),
        started(store, Job("expire", Every(HOUR), second, cluster=True), server="b", leases=leases),
    ):
        await until(lambda: first.runs + second.runs == 1)
        await asyncio.sleep(0.05)
        assert first.runs + second.runs == 1
        first.go_on.set()
        second.go_on.set()
        await until(lambda: len(store.runs) == 1)
    assert not leases.held


async def test_a_server_that_comes_second_sees_that_the_work_was_done() -> None:
    store, leases, first, second = MemoryJobStore(), MemoryLeases(), Work(), Work()
    async with started(store, Job("expire", Every(HOUR), first, cluster=True), server="a", leases=leases):
        await until(lambda: len(store.runs) == 1)
    late = Jobs(store, SystemClock(), [Job("expire", Every(HOUR), second, cluster=True)], server="b", leases=leases)
    await late.start()
    late.replan_after_jump(0.0)  # everything is due at once: the scheduler fires, and finds that nothing is to be done
    await until(lambda: not leases.held)
    await late.stop()
    assert (first.runs, second.runs) == (1, 0)


class JumpingClock:
    """The machine's clock, with its wall clock set off by hand."""

    def __init__(self) -> None:
        self._real: Clock = SystemClock()
        self.off = timedelta(0)

    def now(self) -> datetime:
        return self._real.now() + self.off

    def monotonic(self) -> float:
        return self._real.monotonic()


async def test_after_a_jump_of_the_clock_all_jobs_are_due_at_once() -> None:
    store, clock, work = MemoryJobStore(), JumpingClock(), Work()
    jobs = Jobs(store, clock, [Job("renew-ca", Every(HOUR), work)])
    await jobs.start()
    await until(lambda: work.runs == 1)
    before = jobs.replan_after_jump(clock.now().timestamp() - clock.monotonic())
    clock.off = -3 * HOUR
    after = jobs.replan_after_jump(before)
    await until(lambda: work.runs == 2)
    await jobs.stop()
    assert round(after - before) == -3 * 3600


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Every(timedelta(0)), "every 0 s"),
        (lambda: Cron("0 3 * *"), "is not a crontab line"),
        (lambda: Cron("0 0 31 2 *"), "never comes"),
        (lambda: Job("Prune!", Every(HOUR), Work()), "is not a job's name"),
        (lambda: Job("prune", Every(HOUR), Work(), timeout=timedelta(0)), "more than 0"),
        (
            lambda: Jobs(
                MemoryJobStore(), SystemClock(), [Job("a", Every(HOUR), Work())] * 1 + [Job("a", Every(HOUR), Work())]
            ),
            "two jobs named a",
        ),
    ],
)
async def test_a_job_that_makes_no_sense_is_refused(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        make()
