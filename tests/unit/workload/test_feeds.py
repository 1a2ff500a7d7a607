"""Feeds: what a live stream's caller may have, as its process, its selectors and the registry change."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest

from citadel.errors import PermissionDenied, ResourceExhausted, Unavailable
from citadel.workload.attestors import Attestors
from citadel.workload.feeds import Feeds
from citadel.workload.identities import Identities
from citadel.workload.peer import Peer, PeerTable, peer_of, start_time
from citadel.workload.upstream import Selector
from tests.support.clock import ManualClock
from tests.support.upstream import TD, MemoryUpstream, assigned


class Told:
    """An attestor that says what a test puts in; an error is raised."""

    name = "unix"

    def __init__(self, *selectors: str) -> None:
        self.answer: list[str] | Exception = list(selectors)
        self.asked = 0

    async def selectors(self, peer: Peer) -> list[Selector]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Selector.parse(text) for text in self.answer]


class Side:
    def __init__(self, feeds: Feeds, table: PeerTable, attestor: Told, upstream: MemoryUpstream) -> None:
        self.feeds, self.table, self.attestor, self.upstream = feeds, table, attestor, upstream
        self.clock = ManualClock()
        self.stack = AsyncExitStack()

    def connection(self) -> str:
        """This very process has connected."""
        ours, theirs = socket.socketpair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        token = self.table.add(peer_of(ours))
        self.stack.callback(self.table.remove, token)
        return f"unix-abstract:{token}"


@asynccontextmanager
async def side(*selectors: str, streams: int = 100, recheck: float = 0.02) -> AsyncIterator[Side]:
    clock = ManualClock()
    upstream = await MemoryUpstream.make(clock)
    await upstream.put_bundle()
    identities = Identities(upstream, clock, jitter=random.Random(7), look=timedelta(seconds=0.01))
    attestor, table = Told(*selectors), PeerTable()
    attestors = Attestors([attestor], timeout=timedelta(seconds=1))
    every = timedelta(seconds=recheck)
    feeds = Feeds(table, attestors, identities, clock, TD, recheck=every, streams_per_uid=streams)
    running = [asyncio.create_task(work) for work in (identities.run(), feeds.run())]
    one = Side(feeds, table, attestor, upstream)
    one.clock = clock
    try:
        async with one.stack, asyncio.timeout(20):
            yield one
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def test_a_caller_gets_what_is_registered_for_it_when_it_is() -> None:
    async with side("unix:uid:1") as one, one.feeds.open(one.connection()) as (caller, feed):
        assert caller.uid == os.geteuid()
        assert feed.view.identities == ()
        await one.upstream.put(assigned("other", "unix:uid:2"), assigned("web", "unix:uid:1"))
        while not feed.view.identities:
            await feed.changed(feed.view)
        assert [held.spiffe_id.path for held in feed.view.identities] == ["/web"]


async def test_selectors_that_a_process_loses_take_new_certificates_from_it_and_give_it_none_of_others() -> None:
    async with side("unix:uid:1") as one, one.feeds.open(one.connection()) as (_, feed):
        await one.upstream.put(assigned("web", "unix:uid:1"), assigned("other", "unix:uid:2"))
        while not feed.view.identities:
            await feed.changed(feed.view)
        one.attestor.answer = []
        asked = one.attestor.asked
        while one.attestor.asked < asked + 3:
            await asyncio.sleep(0.01)
        [kept] = feed.view.identities  # an Envoy with an empty secret would be worse off
        one.clock.advance(timedelta(minutes=40))
        await asyncio.sleep(0.1)
        assert feed.view.identities == (kept,)
        one.clock.advance(timedelta(minutes=40))
        while feed.view.identities:
            await feed.changed(feed.view)


@pytest.mark.parametrize("error", [Unavailable("Docker is away"), OSError("broken")])
async def test_an_attestor_that_fails_later_takes_nothing_from_a_caller_that_it_knew(error: Exception) -> None:
    async with side("unix:uid:1") as one, one.feeds.open(one.connection()) as (_, feed):
        await one.upstream.put(assigned("web", "unix:uid:1"))
        while not feed.view.identities:
            await feed.changed(feed.view)
        first = feed.view
        one.attestor.answer = error
        asked = one.attestor.asked
        while one.attestor.asked < asked + 3:
            await asyncio.sleep(0.01)
        one.clock.advance(timedelta(minutes=40))
        assert [held.spiffe_id.path for held in (await feed.changed(first)).identities] == ["/web"]  # renewed
        async with one.feeds.open(one.connection()) as (_, late):
            assert late.view.identities == ()  # and gives nothing to one that it did not


async def test_a_caller_with_many_streams_is_looked_at_once_a_round() -> None:
    async with side("unix:uid:1") as one, AsyncExitStack() as streams:
        peer = one.connection()
        for _ in range(10):
            await streams.enter_async_context(one.feeds.open(peer))
        asked, rounds = one.attestor.asked, 5
        await asyncio.sleep(0.02 * rounds)
        assert one.attestor.asked - asked <= rounds + 1


async def test_one_users_streams_are_limited_and_a_reload_changes_that() -> None:
    async with side("unix:uid:1", streams=2) as one, AsyncExitStack() as streams:
        for _ in range(2):
            await streams.enter_async_context(one.feeds.open(one.connection()))
        with pytest.raises(ResourceExhausted, match="has 2 streams open, which is its quota"):
            await streams.enter_async_context(one.feeds.open(one.connection()))
        one.feeds.streams_per_uid = 3
        await streams.enter_async_context(one.feeds.open(one.connection()))
    async with side("unix:uid:1", streams=1) as one:
        for _ in range(3):  # what was closed does not count
            async with one.feeds.open(one.connection()):
                pass


async def test_a_live_stream_ends_when_its_process_does_though_somebody_keeps_the_connection_open() -> None:
    async with side("unix:uid:1") as one:
        with subprocess.Popen(["/bin/sleep", "60"]) as child:
            pidfd = os.pidfd_open(child.pid)
            peer = Peer(child.pid, os.geteuid(), os.getegid(), pidfd, start_time(child.pid) or 0)
            token = one.table.add(peer)
            one.stack.callback(one.table.remove, token)
            async with one.feeds.open(f"unix-abstract:{token}") as (_, feed):
                child.kill()
                child.wait()
                with pytest.raises(PermissionDenied, match="is not who it was"):
                    await feed.changed(feed.view)
            with pytest.raises(PermissionDenied):
                async with one.feeds.open(f"unix-abstract:{token}"):
                    pass


async def test_whoever_reaches_the_private_socket_without_the_relay_is_nobody() -> None:
    async with side("unix:uid:1") as one:
        for name in ("unix:", "unix-abstract:", "unix-abstract:" + "0" * 32, "ipv4:127.0.0.1:5"):
            with pytest.raises(PermissionDenied, match="did not come through the public socket"):
                async with one.feeds.open(name):
                    pass


async def test_a_connection_is_attested_once_for_all_its_streams_and_another_one_anew() -> None:
    async with side("unix:uid:1", recheck=3600) as one:
        peer = one.connection()
        for _ in range(5):
            async with one.feeds.open(peer):
                pass
        async with AsyncExitStack() as streams:
            for _ in range(5):
                await streams.enter_async_context(one.feeds.open(peer))
        assert one.attestor.asked == 1
        async with one.feeds.open(one.connection()):
            assert one.attestor.asked == 2


async def test_streams_that_open_at_once_share_one_look_and_one_that_goes_away_does_not_end_it() -> None:
    async with side("unix:uid:1", recheck=3600) as one:
        peer = one.connection()

        async def stream() -> None:
            async with one.feeds.open(peer) as (_, feed):
                assert feed.selectors == {Selector.parse("unix:uid:1")}

        first, *others = [asyncio.create_task(stream()) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*others)
        assert one.attestor.asked == 1


async def test_what_is_known_of_a_connection_grows_old() -> None:
    async with side("unix:uid:1") as one:
        peer = one.connection()
        async with one.feeds.open(peer):
            pass
        one.attestor.answer = ["unix:uid:2"]
        await asyncio.sleep(0.05)
        async with one.feeds.open(peer) as (_, feed):
            assert feed.selectors == {Selector.parse("unix:uid:2")}


async def test_streams_opened_and_ended_at_once_are_bounded_too() -> None:
    async with side("unix:uid:1", streams=5) as one:
        peer = one.connection()

        async def open_and_end() -> None:
            for _ in range(100_000):  # it is refilled meanwhile, on a slow machine too, but by ten a second only
                async with one.feeds.open(peer):
                    pass

        with pytest.raises(ResourceExhausted, match="opened more than 100 streams within 10 s"):
            await open_and_end()


async def test_a_process_that_ended_is_not_known_by_what_it_was() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        start = start_time(process.pid)
        assert start is not None
        async with side("unix:uid:1", recheck=3600) as one:
            token = one.table.add(Peer(process.pid, os.geteuid(), os.getegid(), os.pidfd_open(process.pid), start))
            one.stack.callback(one.table.remove, token)
            async with one.feeds.open(f"unix-abstract:{token}"):
                pass
            process.kill()
            process.wait()
            with pytest.raises(PermissionDenied):
                async with one.feeds.open(f"unix-abstract:{token}"):
                    pass
