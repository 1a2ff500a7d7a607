"""The directory: keeps a roster up to date with the store, and tells the nodes' readers what changed for them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import stamina

from citadel.changes import Changes, Topic
from citadel.clock import Clock
from citadel.errors import CitadelError, Unavailable
from citadel.registry.model import Entry
from citadel.registry.ports import EntryStore
from citadel.registry.roster import NodeEntries, NodeNews, NodeReader, Roster
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId

#: How long an announcement may be lost, at most (a network that fails in silence), and how long after its end an entry
#: may still be served if the clock was set.
SAFETY_NET = timedelta(seconds=10)
_TOO_OLD = 3


class Directory:
    """What nodes may serve now. Run `run` as long as it lives."""

    def __init__(self, store: EntryStore, changes: Changes, clock: Clock) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock
        self._roster = Roster()
        self._position: int | None = None
        self._read_at: float | None = None  # on the monotonic clock
        self._loaded = asyncio.Event()
        self._news = asyncio.Condition()

    def node(self, node: SpiffeId, selectors: frozenset[Selector] = frozenset()) -> NodeEntries:
        """What `node`, with these selectors of its own, may serve; for as long as it is held. Empty until `loaded`."""
        return self._roster.node(node, selectors)

    def named(self, spiffe_id: SpiffeId) -> list[Entry]:
        """The entries of this SPIFFE ID that are in force, the oldest first. Raises Unavailable until `loaded`."""
        if not self._loaded.is_set():
            raise Unavailable("the registration entries are not here yet")
        return sorted(self._roster.named(spiffe_id), key=_age)

    def all(self) -> list[Entry]:
        """The entries that are in force, the oldest first."""
        return sorted(self._roster.entries.values(), key=_age)

    async def loaded(self) -> None:
        """Returns once everything was read for the first time."""
        await self._loaded.wait()

    async def next(self, reader: NodeReader) -> NodeNews:
        """What `reader` does not know yet; waits for it."""
        await self.loaded()
        while (news := reader.take()) is None:
            async with self._news:
                await self._news.wait_for(lambda: reader.touched)
        return news

    async def health(self) -> None:
        """Returns if what nodes are told is fresh. Raises Unavailable."""
        if self._read_at is None:
            raise Unavailable("the entries have not been read yet: no node is told what it may serve")
        age = self._clock.monotonic() - self._read_at
        if age > _TOO_OLD * SAFETY_NET.total_seconds():
            raise Unavailable(f"the entries were last read {age:.0f} s ago: nodes are not told of changes")

    async def run(self) -> None:
        """Follow the store until cancelled. While it does not answer, what is known stays in force."""
        async with self._changes.subscribe([Topic.ENTRIES]) as announcements:
            while True:
                async for attempt in stamina.retry_context(CitadelError, attempts=None, timeout=None, wait_max=5.0):
                    with attempt:
                        await self.refresh()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._longest_wait()):
                        await anext(announcements)

    async def refresh(self) -> None:
        """Take in what has happened by now. Raises Unavailable."""
        more = True
        while more:
            news = await self._store.news(self._position)
            now = self._clock.now()
            self._roster.update(news, now)
            self._roster.expire(now)
            self._position, more = news.position, news.more
            self._read_at = self._clock.monotonic()
            self._loaded.set()
            async with self._news:
                self._news.notify_all()

    def _longest_wait(self) -> float:
        """Seconds."""
        end = self._roster.next_end
        left = SAFETY_NET if end is None else end - self._clock.now()
        return max(0.0, min(left, SAFETY_NET).total_seconds())


def _age(entry: Entry) -> tuple[datetime, str]:
    assert entry.created_at is not None  # the store set it
    return entry.created_at, entry.id
