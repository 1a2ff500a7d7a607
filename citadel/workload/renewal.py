"""Renewal: when the certificate of one entry is asked for, and when again. A pure machine without clock and chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from citadel.clock import Clock

_RENEWED_AT = (0.45, 0.55)  # of its life: half, with room so that those who began together do not stay together
_FIRST_DELAY = 0.2  # seconds
_LONGEST_DELAY = 15.0
_LONGEST_DELAY_WITHOUT = 3.0  # while nothing is held, and somebody waits
_CLOCK_NOISE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on both clocks: `wall` is what certificates are judged by, `monotonic` (seconds) cannot be set."""

    wall: datetime
    monotonic: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        return cls(clock.now(), clock.monotonic())


class Renewal:
    """One entry's certificate. Ask `seconds_left` when the next one is due, and tell what came of it.

    It is due at once while there is none; when the entry has changed; about half-way through its life; and when the
    wall clock was set back to before it was obtained, since nobody takes a certificate that is not valid yet. After a
    failure it is due again a little later, each time longer, by the clock that nobody can set.
    """

    def __init__(self) -> None:
        self.renew_at: datetime | None = None
        self._obtained_at: datetime | None = None
        self._retry_at: float | None = None
        self._failures = 0
        self._asked = False
        self._outdated = False

    def seconds_left(self, now: Moment) -> float:
        """Until it is to be asked for; nothing or less: now. Infinite while an answer is awaited."""
        if self._asked:
            return math.inf
        if self._retry_at is not None:
            return self._retry_at - now.monotonic
        if self.renew_at is None or self._obtained_at is None or now.wall < self._obtained_at - _CLOCK_NOISE:
            return 0
        return (self.renew_at - now.wall).total_seconds()

    def asked(self) -> None:
        self._asked, self._outdated = True, False

    def changed(self) -> None:
        """What it should say has changed: whatever is held or on its way is not it."""
        self._outdated = self._asked
        self.renew_at = self._retry_at = None
        self._failures = 0

    def bring_forward(self, to: datetime) -> None:
        """What is held is to be replaced before it runs out. While an answer is awaited that replaces it anyway."""
        if self.renew_at is not None:
            self.renew_at = min(self.renew_at, to)

    def obtained(self, now: Moment, not_after: datetime, chance: float) -> bool:
        """`chance` is a number from 0 to 1. False if the entry changed since it was asked for: throw it away."""
        self._asked, self._retry_at, self._failures = False, None, 0
        if self._outdated:
            return False
        low, high = _RENEWED_AT
        self._obtained_at = now.wall
        self.renew_at = now.wall + (not_after - now.wall) * (low + (high - low) * chance)
        return True

    def failed(self, now: Moment, chance: float) -> None:
        self._asked = False
        if self._outdated:
            return
        longest = _LONGEST_DELAY if self._obtained_at else _LONGEST_DELAY_WITHOUT
        delay = min(_FIRST_DELAY * 2 ** min(self._failures, 16), longest)
        self._failures += 1
        self._retry_at = now.monotonic + delay * (0.5 + chance)
