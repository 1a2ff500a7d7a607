"""Policies from the store: its newest version, read again whenever a change is announced, by whatever server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import stamina

from citadel.authz.sources.origin import Reading
from citadel.authz.stored.model import StoredSet
from citadel.authz.stored.ports import PolicyStore
from citadel.changes import Changes, Topic
from citadel.errors import CitadelError

_HEARTBEAT = 30.0  # seconds; the safety net below the announcements
_NOTHING = "nothing was applied to the store yet; apply a set: citadel policy apply -f …"


class StoreOrigin:
    """Contract: origin.Origin. What the store has was confirmed where it had to be, before it was stored."""

    def __init__(self, store: PolicyStore, changes: Changes, *, heartbeat: float = _HEARTBEAT) -> None:
        self._store = store
        self._changes = changes
        self._heartbeat = heartbeat

    @property
    def where(self) -> str:
        return "the store"

    @asynccontextmanager
    async def readings(self) -> AsyncIterator[AsyncIterator[Reading]]:
        async with self._changes.subscribe([Topic.POLICIES]) as news, aclosing(self._follow(news)) as readings:
            yield readings

    async def _follow(self, news: AsyncIterator[Topic]) -> AsyncGenerator[Reading]:
        read: int | None = None
        while True:
            now = await self._current(read)
            if now is not None:
                read = now.number
                yield _reading(now)
            with suppress(TimeoutError):
                await asyncio.wait_for(anext(news), self._heartbeat)

    async def _current(self, read: int | None) -> StoredSet | None:
        """The newest version; None if it is the one that was read."""
        async for attempt in stamina.retry_context(CitadelError, attempts=None, timeout=None, wait_max=5.0):
            with attempt:
                newest = await self._store.newest()
                if read is not None and read == (0 if newest is None else newest.number):
                    return None
                return await self._store.current()
        return None


def _reading(now: StoredSet) -> Reading:
    if now.version is None:
        return Reading((), missing=_NOTHING)
    return Reading(now.texts(), number=now.number)
