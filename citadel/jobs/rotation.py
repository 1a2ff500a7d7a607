"""Keeps a rotation going: looks whenever something changed that a gate may wait for, and now and then in any case."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog

from citadel.ca.rotation.progress import Progress
from citadel.ca.rotation.schedule import Planned, Waits
from citadel.changes import Changes, Topic
from citadel.clock import Clock
from citadel.errors import CitadelError
from citadel.jobs.model import Every, Job
from citadel.jobs.ports import Leases, PlanMeter, RotationMeter

_PAUSE_SECONDS = 0.1  # many acknowledgements at once are one look
_BEGIN_TIMEOUT = timedelta(minutes=1)
_SHARE = 4.0  # with very many clients a look takes long: then at most a fifth of the time goes into looking
_LONGEST_PAUSE_SECONDS = 10.0  # an emergency waits for no more
log = structlog.get_logger("citadel.jobs")


class RunsRotation(Protocol):
    @property
    def progress(self) -> Progress:
        """How rotations stood at the end of the last `run_due`."""

    async def run_due(self) -> list[str]:
        """Carry out what is due; a sentence for each step."""


class PlansRotation(Protocol):
    async def look(self) -> Planned | None:
        """What is planned next, and what it waits for."""

    async def begin(self) -> str:
        """Begin what is due; what was done, or what it waits for."""


def planned_rotation(
    planner: PlansRotation, leases: Leases, server: str, clock: Clock, meter: PlanMeter, every: timedelta
) -> Job:
    """Begin a planned rotation when it is due, also one that was missed while nobody ran. Every server looks, so that
    each can tell; of several, one begins it."""

    async def begin() -> str:
        if not await leases.acquire("planned-rotation", server, clock.now(), 2 * _BEGIN_TIMEOUT):
            return "another server begins it"
        try:
            return await planner.begin()
        finally:
            await leases.release("planned-rotation", server)

    async def run() -> str:
        found = await planner.look()
        is_due = found is not None and found.waits is not Waits.TIME
        done = await begin() if is_due else ""
        now = await planner.look() if is_due else found
        meter.planned(now.at if now else None, str(now.waits) if now else "")
        return done

    return Job("planned-rotation", Every(every), run, timeout=_BEGIN_TIMEOUT)


def pause(took: float, worked: float) -> float:
    """How many seconds after a look the next one begins. `took` of which it `worked`: in the rest it waited for a hook,
    say, and that is no reason to look less often."""
    return min(max(_PAUSE_SECONDS, _SHARE * min(took, worked)), _LONGEST_PAUSE_SECONDS)


class RotationRunner:
    """Every server runs one; of several, whoever comes first takes a step, and the others find it taken."""

    def __init__(self, rotations: RunsRotation, changes: Changes, every: timedelta, meter: RotationMeter) -> None:
        self._rotations = rotations
        self._changes = changes
        self._meter = meter
        self._every = every.total_seconds()
        self.fault = ""  # why it cannot go on now

    async def run(self) -> None:
        """Until cancelled."""
        async with self._changes.subscribe([Topic.ROTATION, Topic.AUTHORITIES, Topic.CLIENTS]) as news:
            while True:
                began, worked = time.monotonic(), time.thread_time()
                await self._look()
                await asyncio.sleep(pause(time.monotonic() - began, time.thread_time() - worked))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await anext(news)

    async def _look(self) -> None:
        try:
            await self._rotations.run_due()
            self.fault = ""
            now = self._rotations.progress
            self._meter.rotation(now.phases, now.laggards, leaves=now.leaves, asks=now.asks, held=now.held)
        except CitadelError as error:
            if error.message != self.fault:
                log.warning("the rotation cannot go on now", error=error.sentence())
            self.fault = error.message
