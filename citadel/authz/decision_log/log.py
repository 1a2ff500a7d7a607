"""The decision log as the decision point tells it: chooses, keeps, and writes beside the decisions."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from citadel.authz.decision_log.backlog import Backlog
from citadel.authz.decision_log.files import LogFiles
from citadel.authz.decision_log.record import Recorder
from citadel.errors import CitadelError

if TYPE_CHECKING:  # as in `record`
    from citadel.authz.decision_point import Ruling

MOST_WAITING = 4096
SEARCHES = frozenset({"authzen_search"})
"""Doors by which it is only asked who could (doors.authzen.door.SEARCH, which is not imported where nobody uses it)."""
PER_SECOND = 1000
_BATCH = 100
_TELL_AGAIN = 60.0  # seconds
log = structlog.get_logger("citadel.decisions")


class LogMeter(Protocol):
    """Counts what becomes of records. Implementation: telemetry.metrics. Never blocks, never raises."""

    def decision_logged(self, outcome: str, fate: str, count: int = 1) -> None:
        """Records of this outcome (`allow`, `deny`) were `written`, `dropped` (too many wait) or `failed`."""


class _NoMeter:
    def decision_logged(self, outcome: str, fate: str, count: int = 1) -> None: ...


@dataclass(frozen=True, slots=True)
class Share:
    """Which rulings are logged: every denial, and of the allowed ones this share (0 to 1)."""

    allows: float = 0.0
    unlogged: frozenset[str] = SEARCHES
    """Doors of which nothing is logged: nobody is refused by their answers."""
    chance: Callable[[], float] = random.random

    def takes(self, ruling: Ruling) -> bool:
        if ruling.door in self.unlogged:
            return False
        return not ruling.decision.allowed or (self.allows > 0 and self.chance() < self.allows)


class DecisionLog:
    """Contract: decision_point.DecisionObserver. Keep `run` going beside it.

    At most PER_SECOND records a second are written, and MOST_WAITING wait; what is lost is `backlog`'s rule.
    """

    def __init__(
        self,
        recorder: Recorder,
        share: Share,
        files: LogFiles | None,
        *,
        stream: bool,
        meter: LogMeter | None = None,
        per_second: int = PER_SECOND,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.share = share
        self.files = files
        self.fault = ""
        """Why the last records could not be written; empty: they were."""
        self._recorder = recorder
        self._stream = stream
        self._meter = meter or _NoMeter()
        self._backlog = Backlog(most_waiting)
        self._pause = _BATCH / per_second
        self._work = asyncio.Event()
        self._told = -_TELL_AGAIN

    def ruled(self, ruling: Ruling) -> None:
        if not self.share.takes(ruling):
            return
        self.add(self._recorder.record(ruling))

    def add(self, record: dict[str, Any]) -> None:
        """Take a record that was made already, by another process of ours, under the same rule as those of `ruled`."""
        if lost := self._backlog.add(record):
            self._meter.decision_logged(lost, "dropped")
        self._work.set()

    async def run(self) -> None:
        """Write what comes, until cancelled; then what still waits."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while len(self._backlog):
                    await self._write(self._backlog.take(_BATCH))
                    await asyncio.sleep(self._pause)
        finally:
            if len(self._backlog):
                self._written(self._backlog.take(len(self._backlog)))
            if self.files is not None:
                self.files.close()

    async def _write(self, records: Sequence[dict[str, Any]]) -> None:
        writing = asyncio.ensure_future(asyncio.to_thread(self._written, records))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing  # it cannot be called back, and the rest comes after it
            raise

    def _written(self, records: Sequence[dict[str, Any]]) -> None:
        """Blocks. Raises nothing: what cannot be written is counted, and said once a minute."""
        fate = "written"
        try:
            if self._stream:
                for record in records:
                    log.info("decision", **record)
            if self.files is not None:
                self.files.write(records)
            self.fault = ""
        except CitadelError as error:
            fate, self.fault = "failed", error.message
        except Exception as defect:
            fate, self.fault = "failed", f"{type(defect).__name__}: {defect}"
        if self.fault and time.monotonic() - self._told >= _TELL_AGAIN:
            self._told = time.monotonic()
            log.error("decisions could not be logged", why=self.fault)
        for outcome in ("allow", "deny"):
            if count := sum(record["outcome"] == outcome for record in records):
                self._meter.decision_logged(outcome, fate, count)
