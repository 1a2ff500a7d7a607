"""What the jobs need from the world. Each comment is a contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol


class Run(Protocol):
    """One run of a job, as it is written down."""

    @property
    def name(self) -> str: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def finished_at(self) -> datetime: ...
    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...


class JobStore(Protocol):
    """Where runs are written down. Implementation: store.records."""

    async def record(self, run: Run, /) -> None:
        """Write `run` in place of the one before of the same name. Raises Unavailable."""

    async def last(self) -> Mapping[str, Run]:
        """The newest run of each job, by name. Raises Unavailable."""


class Leases(Protocol):
    """Who of several servers on one database does something. Implementation: store.leases."""

    async def acquire(self, name: str, holder: str, now: datetime, duration: timedelta) -> bool:
        """Whether `holder` has the lease `name` until `now` + `duration`.

        True if nobody had it, its time was over, or `holder` had it already. Of many who ask at once, one gets it.
        One that ends further than clock.SERVERS_DIFFER behind what is asked for was taken by a clock that was set back
        since, and is over: all who ask for a name ask for the same duration.
        The servers' clocks decide, so `duration` must be long compared with what they differ by. Raises Unavailable.
        """

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back, if `holder` has it."""


class RotationMeter(Protocol):
    """Shows how rotations stand. Implementation: telemetry.metrics. Never blocks, never raises."""

    def rotation(
        self, phases: Mapping[str, float], laggards: Mapping[str, int], *, leaves: int, asks: bool, held: bool = False
    ) -> None:
        """`phases`: those that a rotation is in now, each with the seconds since the longest waiting one entered it;
        `laggards`: clients behind, by standing; `leaves`: in use under roots on their way out; `asks`: an emergency
        waits for an operator's word; `held`: a hook holds one up."""


class PlanMeter(Protocol):
    """Shows when the root is to be replaced. Implementation: telemetry.metrics. Never blocks, never raises."""

    def planned(self, at: datetime | None, waits: str) -> None:
        """`at`: when the next planned rotation is, or was, due (None: none is planned); `waits`: what it waits for
        (ca.rotation.schedule.Waits)."""


class JobMeter(Protocol):
    """Counts runs. Implementation: telemetry.metrics. Never blocks, never raises."""

    def job_run(self, name: str, ok: bool, seconds: float) -> None: ...
