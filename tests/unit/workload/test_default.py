"""Which identity is a caller's default: that of the entry made first, and no other while that one is not there."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest_asyncio

from citadel.clock import SystemClock
from citadel.errors import CitadelError, Unavailable
from citadel.workload.attestors import Attestors
from citadel.workload.feeds import Feed, Feeds
from citadel.workload.identities import Identities
from citadel.workload.peer import Peer, PeerTable, peer_of
from citadel.workload.upstream import Selector, SignedSvid, SvidRequest
from tests.support.issuance import NOW
from tests.support.upstream import TD, MemoryUpstream, assigned

FIRST, SECOND = assigned("first"), assigned("second", created_at=NOW + timedelta(minutes=1))


class Choosy(MemoryUpstream):
    """Does not sign for the entries in `later` yet."""

    later: frozenset[str] = frozenset()

    async def sign(self, requests: Sequence[SvidRequest]) -> list[SignedSvid | CitadelError]:
        answers = await super().sign(requests)
        not_yet = Unavailable("not yet")
        return [not_yet if r.entry_id in self.later else a for r, a in zip(requests, answers, strict=True)]


class Fixed:
    name = "unix"

    async def selectors(self, peer: Peer) -> list[Selector]:
        return [Selector.parse("unix:uid:1000")]


class OnePeer(PeerTable):
    def lookup(self, name: str) -> Peer:
        return self.peer

    def __init__(self) -> None:
        super().__init__()
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            self.peer = peer_of(ours)
        assert self.peer.pid == os.getpid()


@pytest_asyncio.fixture
async def upstream() -> Choosy:
    made = await Choosy.make(SystemClock())
    assert isinstance(made, Choosy)
    await made.put_bundle()
    return made


@pytest_asyncio.fixture
async def feed(upstream: Choosy) -> AsyncIterator[Feed]:
    clock, table = SystemClock(), OnePeer()
    identities = Identities(upstream, clock)
    feeds = Feeds(table, Attestors([Fixed()], timeout=timedelta(seconds=1)), identities, clock, TD,
                  recheck=timedelta(hours=1), streams_per_uid=8)  # fmt: skip
    running = asyncio.create_task(identities.run())
    async with feeds.open("") as (_, one):
        yield one
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    table.peer.close()


async def held(feed: Feed, *paths: str) -> None:
    """Until these identities are there, in this order."""
    async with asyncio.timeout(10):
        while [one.spiffe_id.path for one in feed.view.identities] != list(paths):
            await feed.changed(feed.view)


async def test_the_entry_that_was_made_first_is_the_default(upstream: Choosy, feed: Feed) -> None:
    await upstream.put(SECOND, FIRST)
    await held(feed, "/first", "/second")
    assert feed.view.default is feed.view.identities[0]


async def test_while_it_has_no_certificate_there_is_no_default(upstream: Choosy, feed: Feed) -> None:
    upstream.later = frozenset({"first"})
    await upstream.put(FIRST, SECOND)
    await held(feed, "/second")
    assert feed.view.default is None
    upstream.later = frozenset()
    await held(feed, "/first", "/second")
    assert feed.view.default is not None
    assert feed.view.default.spiffe_id == FIRST.spiffe_id


async def test_once_it_is_deleted_the_next_one_is(upstream: Choosy, feed: Feed) -> None:
    await upstream.put(FIRST, SECOND)
    await held(feed, "/first", "/second")
    await upstream.delete("first")
    await held(feed, "/second", "/first")  # what it has lasts until it runs out
    assert feed.view.default is not None
    assert feed.view.default.spiffe_id == SECOND.spiffe_id
