"""When an issuer's keys are fetched again: a pure machine for one issuer, fed with times and results.

A copy is fresh for `lifetime`; from four fifths of it on it is renewed while it is still used. When it is no longer
fresh, whoever needs keys waits for the attempt; if that fails, the old copy stays in use until `longest_outage`.
Failures are followed by growing pauses. A key that the copy lacks is a reason to ask, but not more often than
`unknown_key_interval`, since anybody can make up names of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from citadel.authz.tokens.keys import KeySet

_RENEW_AT = 0.8


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """How keys are cached."""

    lifetime: timedelta = timedelta(minutes=5)
    unknown_key_interval: timedelta = timedelta(seconds=10)
    first_pause: timedelta = timedelta(seconds=1)
    longest_pause: timedelta = timedelta(seconds=60)
    longest_outage: timedelta = timedelta(hours=24)
    """So old may a copy become while its issuer does not answer; then nobody is let in by it any more."""


class Need(Enum):
    NOTHING = auto()
    SOON = auto()
    """Fetch, and go on with the copy that is there."""
    NOW = auto()
    """Wait for an attempt to fetch."""


@dataclass(slots=True)
class KeyState:
    """One issuer's keys. Times are seconds of a monotonic clock."""

    schedule: KeySchedule
    problem: str = "they were not fetched yet"
    """Why the last attempt failed; empty after one that did not."""
    _keys: KeySet | None = None
    _fetched: float = 0.0
    _attempted: float = 0.0
    _failures: int = field(default=0)
    _not_before: float = float("-inf")

    def need(self, kid: str, now: float) -> Need:
        """What a token asks for that names `kid`, and comes now."""
        if now < self._not_before:
            return Need.NOTHING
        if self._keys is None:
            return Need.NOW
        age, lifetime = now - self._fetched, self.schedule.lifetime.total_seconds()
        if age >= lifetime:
            return Need.NOW
        interval = self.schedule.unknown_key_interval.total_seconds()
        if not self._keys.knows(kid) and now - self._attempted >= interval:
            return Need.NOW
        return Need.SOON if age >= lifetime * _RENEW_AT else Need.NOTHING

    def succeeded(self, keys: KeySet, now: float) -> None:
        self._keys, self._fetched, self._attempted = keys, now, now
        self._failures, self._not_before, self.problem = 0, float("-inf"), ""

    def failed(self, problem: str, now: float, chance: float) -> None:
        """`chance`, from 0 to 1, spreads the attempts of many servers over the second half of the pause."""
        pause = self.schedule.first_pause.total_seconds() * 2 ** min(self._failures, 30)
        pause = min(pause, self.schedule.longest_pause.total_seconds())
        self._failures += 1
        self._attempted, self._not_before, self.problem = now, now + pause * (1 + chance) / 2, problem

    def usable(self, now: float) -> KeySet | None:
        """The keys that may be used now; None: there are none."""
        limit = self.schedule.lifetime + self.schedule.longest_outage
        return self._keys if now - self._fetched <= limit.total_seconds() else None

    def pause(self, now: float) -> timedelta:
        """How long nobody asks again."""
        return timedelta(seconds=max(0.0, self._not_before - now)) if self._failures else timedelta(0)
