"""Runs the jobs: by the clock, each never twice at once, each run written down, and none able to stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from citadel.clock import Clock
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput
from citadel.jobs.model import Every, Job, JobRun, JobStatus
from citadel.jobs.ports import JobMeter, JobStore, Leases, Run

_log = structlog.get_logger("citadel.jobs")
_RECORD_TIMEOUT = 10.0  # seconds to write down a run
_LEASE_SPARE = timedelta(seconds=30)  # how much longer than a job's timeout its lease lasts
_WATCH_SECONDS = 5.0
_JUMP_SECONDS = 5.0  # the wall clock may be slewed; more than this between two looks is a jump


class NoMeter:
    """Counts nothing."""

    def job_run(self, name: str, ok: bool, seconds: float) -> None:
        pass


class Jobs:
    """The jobs of one server. They are declared in code and rebuilt at each start; the store knows their last runs.

    `server` names this server among those that share a database. Without `leases` every job runs here.
    Raises InvalidInput if two jobs have one name.
    """

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        jobs: Iterable[Job],
        *,
        server: str = "local",
        leases: Leases | None = None,
        meter: JobMeter | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._server = server
        self._leases = leases
        self._meter = meter or NoMeter()
        self._jobs: dict[str, Job] = {}
        for job in jobs:
            if self._jobs.setdefault(job.name, job) is not job:
                raise InvalidInput(f"there are two jobs named {job.name}")
        self._last: dict[str, Run] = {}
        self._running: set[str] = set()
        self._scheduler: AsyncIOScheduler | None = None
        self._watch: asyncio.Task[None] | None = None
        self._works: set[asyncio.Task[None]] = set()  # what runs, or waits for its lease

    async def start(self) -> None:
        """Begin. What was missed while we were down, or never ran, runs at once, and once. Raises Unavailable."""
        if self._scheduler is not None:
            raise FailedPrecondition("the jobs are running already")
        self._last = dict(await self._recorded())
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        now = self._clock.now()
        for job in self._jobs.values():
            first = self._first_run(job, now)
            scheduler.add_job(self._fire, job.trigger(), args=[job], id=job.name, next_run_time=first)
        scheduler.start()
        self._scheduler = scheduler
        self._watch = asyncio.create_task(self._watch_clock(), name="clock watch")

    async def stop(self, timeout: timedelta = timedelta(seconds=5)) -> None:
        """Start nothing more; wait for what runs, and cancel what is not done after `timeout`."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is None:
            return
        scheduler.remove_all_jobs()
        await asyncio.sleep(0)  # what the scheduler has just fired begins, so that it is waited for and not cancelled
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if works := set(self._works):
            _, late = await asyncio.wait(works, timeout=timeout.total_seconds())
            for work in late:
                work.cancel()
            if late:
                await asyncio.wait(late, timeout=timeout.total_seconds())
            await asyncio.sleep(0)  # what the scheduler fired sees its end: else it would be cancelled, and that logged
        scheduler.shutdown(wait=False)
        await asyncio.sleep(0)  # AsyncIOScheduler shuts down in the loop's next turn

    async def status(self) -> list[JobStatus]:
        """How each job is doing, in order of name. If the store does not answer: as far as this server knows."""
        with suppress(CitadelError, TimeoutError):
            for name, run in (await self._recorded()).items():
                self._last[name] = run
        return [self._status(job) for _, job in sorted(self._jobs.items())]

    def _status(self, job: Job) -> JobStatus:
        scheduled = self._scheduler.get_job(job.name) if self._scheduler else None
        upcoming: datetime | None = scheduled.next_run_time if scheduled else None
        running = job.name in self._running
        last = self._last.get(self._key(job))
        if last is None:
            return JobStatus(job.name, running, upcoming)
        took = last.finished_at - last.started_at
        return JobStatus(job.name, running, upcoming, last.started_at, took, last.ok, last.detail)

    async def _recorded(self) -> Mapping[str, Run]:
        async with asyncio.timeout(_RECORD_TIMEOUT):
            return await self._store.last()

    def _key(self, job: Job) -> str:
        """Under what name runs are recorded: jobs that run on each server must not take one another's for their own."""
        return job.name if job.cluster else f"{job.name}@{self._server}"

    def _first_run(self, job: Job, now: datetime) -> datetime:
        last = self._last.get(self._key(job))
        if last is None:
            return now if isinstance(job.when, Every) else job.when.next_after(now)
        if last.started_at > now:  # the clock was set back: what it says of the last run means nothing
            return now
        return max(now, job.when.next_after(last.started_at))

    async def _fire(self, job: Job) -> None:
        """What the scheduler calls, never twice at once (`max_instances`).

        The work is a task of its own: the scheduler would take its being stopped for an error, traceback and all.
        """
        work = asyncio.create_task(self._work(job), name=f"job {job.name}")
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        await asyncio.wait([work])

    async def _work(self, job: Job) -> None:
        """Raises nothing but cancellation."""
        try:
            await self._run_if_ours(job)
        except CitadelError as error:
            _log.warning("a job could not be run", job=job.name, detail=error.sentence())
        except Exception:  # a defect around the run; the scheduler must live, and the log tells
            _log.exception("a job could not be run", job=job.name)

    async def _run_if_ours(self, job: Job) -> None:
        if not job.cluster or self._leases is None:
            await self._run(job)
            return
        lease = f"job:{job.name}"
        if not await self._leases.acquire(lease, self._server, self._clock.now(), job.timeout + _LEASE_SPARE):
            _log.debug("another server runs the job", job=job.name)
            return
        try:
            last = (await self._recorded()).get(job.name)
            now = self._clock.now()
            if last is None or last.started_at > now or job.when.is_due(last.started_at, now):
                await self._run(job)
        finally:
            await self._leases.release(lease, self._server)

    async def _run(self, job: Job) -> None:
        self._running.add(job.name)
        began, started_at = self._clock.monotonic(), self._clock.now()
        ok, detail = False, "it was stopped"
        try:
            async with asyncio.timeout(job.timeout.total_seconds()):
                detail = await job.run()
            ok = True
        except TimeoutError:
            detail = f"it was not done after {job.timeout.total_seconds():g} s"
            _log.error("a job took too long", job=job.name, detail=detail)
        except CitadelError as error:
            detail = error.sentence()
            _log.warning("a job failed", job=job.name, detail=detail)
        except Exception as error:  # a defect in the job: told, and the next run comes as planned
            detail = f"a defect ({type(error).__name__}); the log has the rest"
            _log.exception("a job failed", job=job.name)
        finally:
            seconds = self._clock.monotonic() - began
            run = JobRun(self._key(job), started_at, started_at + timedelta(seconds=seconds), ok, detail)
            self._running.discard(job.name)
            self._last[run.name] = run
            self._meter.job_run(job.name, ok, seconds)
            await self._record(run)

    async def _record(self, run: JobRun) -> None:
        try:
            async with asyncio.timeout(_RECORD_TIMEOUT):
                await self._store.record(run)
        except (CitadelError, TimeoutError) as error:
            _log.warning("a job's run could not be recorded", job=run.name, detail=str(error))

    async def _watch_clock(self) -> None:
        """Look for jumps of the wall clock, by which the scheduler plans: after one, all jobs are due at once."""
        offset = self._clock.now().timestamp() - self._clock.monotonic()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            offset = self.replan_after_jump(offset)

    def replan_after_jump(self, offset: float) -> float:
        """Plan anew if wall clock minus monotonic clock is not `offset` any more (seconds); what it is now.

        Set back an hour, the scheduler would do nothing for an hour: it waits for the moments that it had planned.
        """
        now = self._clock.now()
        current = now.timestamp() - self._clock.monotonic()
        if abs(current - offset) <= _JUMP_SECONDS or self._scheduler is None:
            return current
        _log.warning("the clock jumped; all jobs are planned anew", seconds=round(current - offset, 3))
        for job in self._jobs.values():
            first = now if isinstance(job.when, Every) else job.when.next_after(now)
            self._scheduler.modify_job(job.name, next_run_time=first)
        return current
