"""Jobs as values: what is to be done, how often, how long it may take, and how it went."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from citadel.errors import InvalidInput

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_EARLY = 0.9  # of an interval: what started that long ago is due; starts lag and jitter a little


@dataclass(frozen=True, slots=True)
class Every:
    """Once per `interval`. Raises InvalidInput unless it is positive."""

    interval: timedelta

    def __post_init__(self) -> None:
        if self.interval <= timedelta(0):
            raise InvalidInput(f"a job cannot run every {self.interval.total_seconds():g} s: it must be more than 0")

    def trigger(self) -> BaseTrigger:
        return IntervalTrigger(seconds=self.interval.total_seconds(), timezone=UTC)

    def next_after(self, last: datetime) -> datetime:
        return last + self.interval

    def is_due(self, last: datetime, now: datetime) -> bool:
        return now - last >= self.interval * _EARLY


@dataclass(frozen=True, slots=True)
class Cron:
    """When a crontab line of five fields says, in UTC. Raises InvalidInput."""

    line: str

    def __post_init__(self) -> None:
        try:
            upcoming = self.trigger().get_next_fire_time(None, datetime.now(UTC))
        except ValueError as error:
            raise InvalidInput(f"{self.line!r} is not a crontab line: {error}") from error
        if upcoming is None:
            raise InvalidInput(f"{self.line!r} is not a crontab line: that moment never comes")

    def trigger(self) -> BaseTrigger:
        return CronTrigger.from_crontab(self.line, timezone=UTC)

    def next_after(self, last: datetime) -> datetime:
        upcoming: datetime = self.trigger().get_next_fire_time(None, last + timedelta(seconds=1))
        return upcoming

    def is_due(self, last: datetime, now: datetime) -> bool:
        return self.next_after(last) <= now


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is done by the clock.

    `run` returns a short sentence on what it did, for `status` (empty: nothing to do). It is cancelled after
    `timeout`. It must bear being run twice, or cut off: whatever it does must be whole transactions. A `cluster` job
    runs on one of several servers only; others run on each. Each start is delayed by up to `jitter`.
    Raises InvalidInput.
    """

    name: str
    when: Every | Cron
    run: Callable[[], Awaitable[str]]
    timeout: timedelta = timedelta(minutes=1)
    jitter: timedelta = timedelta(0)
    cluster: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(f"{self.name!r} is not a job's name: expected lower-case letters, digits and dashes")
        if self.timeout <= timedelta(0) or self.jitter < timedelta(0):
            raise InvalidInput(f"job {self.name}: its timeout must be more than 0, its jitter 0 or more")

    def trigger(self) -> BaseTrigger:
        trigger = self.when.trigger()
        trigger.jitter = self.jitter.total_seconds() or None
        return trigger


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run: `detail` says what it did, or in one sentence why it failed."""

    name: str
    started_at: datetime
    finished_at: datetime
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as `status` shows it. `last` None: it never ran. `next_run_at` None: the jobs are stopped."""

    name: str
    running: bool
    next_run_at: datetime | None
    last_started_at: datetime | None = None
    last_duration: timedelta | None = None
    last_ok: bool | None = None
    last_detail: str = ""
