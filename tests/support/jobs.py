"""Job runs and leases in memory. Contracts: citadel.jobs.ports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from citadel.clock import SERVERS_DIFFER
from citadel.errors import Unavailable
from citadel.jobs import Run


class MemoryJobStore:
    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.down = False

    async def record(self, run: Run, /) -> None:
        self._answer()
        self.runs.append(run)

    async def last(self) -> Mapping[str, Run]:
        self._answer()
        return {run.name: run for run in self.runs}

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("the database does not answer")


class MemoryLeases:
    def __init__(self) -> None:
        self.held: dict[str, tuple[str, datetime]] = {}

    async def acquire(self, name: str, holder: str, now: datetime, duration: timedelta) -> bool:
        owner, until = self.held.get(name, (holder, now))
        if owner != holder and now < until <= now + duration + SERVERS_DIFFER:
            return False
        self.held[name] = (holder, now + duration)
        return True

    async def release(self, name: str, holder: str) -> None:
        if self.held.get(name, ("",))[0] == holder:
            del self.held[name]
