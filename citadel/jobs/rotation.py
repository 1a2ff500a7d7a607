"""Keeps a rotation going: looks whenever something changed that a gate may wait for, and now and then in any case."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog

from citadel.ca.rotation.progress import Progress
from citadel.changes import Changes, Topic
from citadel.errors import CitadelError
from citadel.jobs.ports import RotationMeter

_PAUSE_SECONDS = 0.1  # many acknowledgements at once are one look
_SHARE = 4.0  # with very many clients a look takes long: then at most a fifth of the time goes into looking
log = structlog.get_logger("citadel.jobs")


class RunsRotation(Protocol):
    @property
    def progress(self) -> Progress:
        """How rotations stood at the end of the last `run_due`."""

    async def run_due(self) -> list[str]:
        """Carry out what is due; a sentence for each step."""


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
                began = time.monotonic()
                await self._look()
                took = time.monotonic() - began
                await asyncio.sleep(max(_PAUSE_SECONDS, _SHARE * took))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await anext(news)

    async def _look(self) -> None:
        try:
            await self._rotations.run_due()
            self.fault = ""
            now = self._rotations.progress
            self._meter.rotation(now.phases, now.laggards, leaves=now.leaves, asks=now.asks)
        except CitadelError as error:
            if error.message != self.fault:
                log.warning("the rotation cannot go on now", error=error.sentence())
            self.fault = error.message
