"""LeasedHook: of several servers on one database, one asks at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from citadel.ca.rotation.hooks import Hook, Question, Verdict
from citadel.clock import Clock

_LEASE = "rotation-hook"


class Leases(Protocol):
    """As jobs.ports.Leases."""

    async def acquire(self, name: str, holder: str, now: datetime, duration: timedelta) -> bool: ...

    async def release(self, name: str, holder: str) -> None: ...


class LeasedHook:
    """Contract: ca.rotation.hooks.Hook."""

    def __init__(self, hook: Hook, leases: Leases, server: str, clock: Clock, longest: timedelta) -> None:
        """`longest`: how long an answer takes at the most."""
        self._hook = hook
        self._leases = leases
        self._server = server
        self._clock = clock
        self._longest = longest

    async def ask(self, question: Question) -> Verdict:
        if not await self._leases.acquire(_LEASE, self._server, self._clock.now(), 2 * self._longest):
            return Verdict(False, "another server asks it now", pending=True)
        try:
            return await self._hook.ask(question)
        finally:
            await self._leases.release(_LEASE, self._server)
