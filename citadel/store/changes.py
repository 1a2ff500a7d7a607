"""Announces changes: within this process at once, and to the other servers over PostgreSQL's LISTEN/NOTIFY."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import structlog

from citadel.changes import Topic

_CHANNEL = "citadel"
_RECONNECT_SECONDS = 1.0
log = structlog.get_logger("citadel.store")


class _Subscription:
    def __init__(self, topics: frozenset[Topic]) -> None:
        self.topics = topics
        self._pending: set[Topic] = set()
        self._wake = asyncio.Event()

    def announce(self, topic: Topic) -> None:
        if topic in self.topics:
            self._pending.add(topic)
            self._wake.set()

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> Topic:
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
        return self._pending.pop()


class LocalChanges:
    """Changes within one process. Contract: citadel.changes.Changes."""

    def __init__(self) -> None:
        self._subscriptions: set[_Subscription] = set()

    @asynccontextmanager
    async def subscribe(self, topics: Collection[Topic]) -> AsyncIterator[AsyncIterator[Topic]]:
        subscription = _Subscription(frozenset(topics))
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def announce(self, *topics: Topic) -> None:
        for subscription in self._subscriptions:
            for topic in topics:
                subscription.announce(topic)


async def listen(dsn: str, changes: LocalChanges) -> None:
    """Pass on what other servers announce, until cancelled. After a lost connection everything is announced once."""
    while True:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await _listen_until_lost(dsn, changes)
        log.warning("lost the database's announcements, listening again")
        await asyncio.sleep(_RECONNECT_SECONDS)


async def _listen_until_lost(dsn: str, changes: LocalChanges) -> None:
    connection: Any = await asyncpg.connect(dsn, timeout=10)
    try:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        await connection.add_listener(_CHANNEL, lambda *given: _hear(changes, given[3]))
        changes.announce(*Topic)
        await lost.wait()
    finally:
        connection.terminate()
        await asyncio.sleep(0)  # the transport closes in the loop's next turn


def _hear(changes: LocalChanges, payload: str) -> None:
    with suppress(ValueError):  # a newer server's topic
        changes.announce(Topic(payload))
