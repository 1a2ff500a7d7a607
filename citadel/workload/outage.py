"""Outages: the server signs nothing. What is held is served on, and it is said how long that lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from citadel.clock import Clock

_REMINDED_EVERY = 60.0  # seconds
log = structlog.get_logger("citadel.workload")


@dataclass(frozen=True, slots=True)
class Outage:
    """No certificates are to be had. `held` are served on; the first of them ends at `lasts_until`."""

    since: datetime
    error: str
    held: int
    lasts_until: datetime | None
    left: timedelta

    def sentence(self) -> str:
        """One line for people: what, since when, why, and how long it may go on."""
        what = f"no certificates since {self.since:%Y-%m-%dT%H:%M:%SZ}: {' '.join(self.error.split())}"
        if self.lasts_until is None:
            return f"{what}; none is held that could be served on"
        ends = f"{self.lasts_until:%Y-%m-%dT%H:%M:%SZ}"
        if self.left <= timedelta(0):
            return f"{what}; of the {self.held} held the first ended at {ends}"
        return f"{what}; the {self.held} held are served on, and the first ends at {ends}, in {_rounded(self.left)}"


class OutageLog:
    """Notices when an outage begins and ends, and says so once, and again each minute while it lasts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: datetime | None = None
        self._began = 0.0
        self._told_at: float | None = None
        self._error = ""

    def failed(self, error: str) -> None:
        if self._since is None:
            self._since, self._began, self._told_at = self._clock.now(), self._clock.monotonic(), None
        self._error = error

    def over(self) -> None:
        if self._since is not None and self._told_at is not None:
            log.info("certificates are to be had again", after=_rounded(self._lasted()))
        self._since = None

    def now(self, ends: Sequence[datetime]) -> Outage | None:
        """`ends`: when each certificate that is held does."""
        if self._since is None:
            return None
        soonest = min(ends, default=None)
        left = soonest - self._clock.now() if soonest else timedelta(0)
        return Outage(self._since, self._error, len(ends), soonest, left)

    def remind(self, outage: Outage | None) -> None:
        """Say aloud how it stands, if it is time to."""
        now = self._clock.monotonic()
        if outage is not None and (self._told_at is None or now - self._told_at >= _REMINDED_EVERY):
            self._told_at = now
            log.warning(outage.sentence(), held=outage.held, lasts_seconds=int(outage.left.total_seconds()))

    def _lasted(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._began)


def _rounded(length: timedelta) -> str:
    """`41s`, `12m`, `3h 5m`: what a reader of a log wants to know."""
    seconds = int(length.total_seconds())
    if seconds < 60:
        return f"{seconds}s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"
