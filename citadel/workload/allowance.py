"""Allowances: how much of something each user may still do now. A pure machine: the time is an argument."""

from __future__ import annotations


class Allowances:
    """For each user a bucket of tokens that fills again evenly, from empty to full in `refill` seconds.

    Costs memory only for users who took some lately.
    """

    def __init__(self, refill: float) -> None:
        self._refill = refill
        self._taken: dict[int, tuple[float, float]] = {}  # user: tokens taken, as of when (seconds)
        self._swept_at = 0.0

    def take(self, user: int, most: int, now: float) -> bool:
        """One token of at most `most`; False if there is none left."""
        self._sweep(now)
        taken, since = self._taken.get(user, (0.0, now))
        taken = max(0.0, taken - (now - since) * most / self._refill)
        if taken + 1 > most:
            self._taken[user] = (taken, now)
            return False
        self._taken[user] = (taken + 1, now)
        return True

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < self._refill:
            return
        self._swept_at = now
        self._taken = {user: kept for user, kept in self._taken.items() if now - kept[1] < self._refill}

    def __len__(self) -> int:
        return len(self._taken)
