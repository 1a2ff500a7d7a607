"""LeasedHook: of several who would ask, on one database, one asks at a time."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Protocol

from citadel.ca.rotation.hooks import Hook, Question, Verdict
from citadel.clock import Clock

_LEASE = "rotation-hook"
_MORE = timedelta(seconds=5)  # for the program to be gone


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
        asks = f"{self._server} {uuid.uuid4().hex}"  # at one server too, a command and what goes on by itself are two
        if not await self._leases.acquire(_LEASE, asks, self._clock.now(), self._longest + _MORE):
            return Verdict(False, f"it is being asked already, and answers within {self._longest}", pending=True)
        try:
            return await self._hook.ask(question)
        finally:
            await self._leases.release(_LEASE, asks)
