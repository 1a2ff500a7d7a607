"""Feeds: what one attested caller may have, as it changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, PermissionDenied, ResourceExhausted
from citadel.held import HeldIdentity, View
from citadel.spiffe import TrustDomain
from citadel.workload.allowance import Allowances
from citadel.workload.attestors import Attestors
from citadel.workload.connections import Connections
from citadel.workload.entry_index import EntryIndex
from citadel.workload.identities import Identities
from citadel.workload.peer import Peer, PeerTable
from citadel.workload.ports import Unmetered, WorkloadMeter
from citadel.workload.upstream import AssignedEntry, Selector

_REFILL_SECONDS = 10.0
_ALWAYS_OPENED = 100  # in that time: a small quota of open streams is none of reconnects
_LOOKS_AT_ONCE = 64  # so that one that is slow to be known does not hold up the look at all others
log = structlog.get_logger("citadel.workload")


class Feed:
    """Contract: sds.ports.Feed. Updated by Feeds; has no task of its own."""

    __slots__ = ("_ended", "_told", "_view", "entries", "peer", "selectors", "shown")

    def __init__(self, peer: Peer, selectors: frozenset[Selector], trust_domain: TrustDomain) -> None:
        self.peer = peer
        self.selectors = selectors
        self.entries: list[AssignedEntry] = []
        self.shown: dict[str, HeldIdentity] = {}
        self._view = View(trust_domain, (), {})
        self._ended = False
        self._told: Callable[[], None] | None = None

    @property
    def view(self) -> View:
        if self._ended:
            raise PermissionDenied(f"{self.peer.name} is not who it was")
        return self._view

    def follow(self, told: Callable[[], None] | None) -> None:
        self._told = told

    async def changed(self, seen: View) -> View:
        """Wait until the newest view is not `seen`, and return it; for those who follow nothing else."""
        news = asyncio.Event()
        self.follow(news.set)
        try:
            while self.view is seen:
                news.clear()
                await news.wait()
        finally:
            self.follow(None)
        return self.view

    def put(self, view: View) -> None:
        if view != self._view:
            self._view = view
            self._tell()

    def end(self) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        if self._told is not None:
            self._told()


class Feeds:
    """Opens feeds and keeps them up to date. Contract: sds.ports.Secrets. Run `run` as long as it lives."""

    def __init__(
        self,
        table: PeerTable,
        attestors: Attestors,
        identities: Identities,
        clock: Clock,
        trust_domain: TrustDomain,
        *,
        recheck: timedelta,
        streams_per_uid: int,
        meter: WorkloadMeter | None = None,
    ) -> None:
        self._table = table
        self._identities = identities
        self._clock = clock
        self._trust_domain = trust_domain
        self._recheck = recheck.total_seconds()
        self.streams_per_uid = streams_per_uid
        self._known = Connections(attestors, recheck.total_seconds())
        self._opened = Allowances(_REFILL_SECONDS)
        self._meter = meter or Unmetered()
        self._feeds: set[Feed] = set()
        self._users: dict[str, set[Feed]] = {}  # entry id: the feeds that show it
        self._per_uid: Counter[int] = Counter()
        self._by_selector: dict[Selector, set[Feed]] = {}
        self._index = EntryIndex()
        #: Equal views and selectors, which those of many streams are, are one object.
        self._recent = View(trust_domain, (), {})
        self._recent_selectors: frozenset[Selector] = frozenset()
        identities.listen(self)

    @asynccontextmanager
    async def open(self, peer: str) -> AsyncIterator[tuple[Peer, Feed]]:
        caller = self._table.lookup(peer)
        self._allow(caller.uid)
        self._per_uid[caller.uid] += 1
        feed: Feed | None = None
        try:
            feed = Feed(caller, self._one(await self._known.selectors(caller)), self._trust_domain)
            self._feeds.add(feed)
            self._file(feed)
            self._match(feed)
            yield caller, feed
        finally:
            self._per_uid[caller.uid] -= 1
            if not self._per_uid[caller.uid]:
                del self._per_uid[caller.uid]
            if feed is not None:
                self._feeds.discard(feed)
                self._unfile(feed)
                self._forget(feed)

    def _allow(self, uid: int) -> None:
        """What is begun and ended at once counts against no number of open streams, and costs us all the same."""
        if self._per_uid[uid] >= self.streams_per_uid:
            self._meter.refused("streams_per_uid")
            raise ResourceExhausted(f"uid {uid} has {self.streams_per_uid} streams open, which is its quota")
        most = max(self.streams_per_uid, _ALWAYS_OPENED)
        if not self._opened.take(uid, most, asyncio.get_running_loop().time()):
            self._meter.refused("streams_per_uid")
            raise ResourceExhausted(
                f"uid {uid} opened more than {most} streams within {_REFILL_SECONDS:g} s: keep them open, or raise "
                "sockets.workload.quota_streams_per_uid"
            )

    async def run(self) -> None:
        """Look at every caller again now and then, until cancelled. A caller with many streams is looked at once."""
        while True:
            await asyncio.sleep(self._recheck)
            by_peer: dict[Peer, list[Feed]] = {}
            for feed in self._feeds:
                by_peer.setdefault(feed.peer, []).append(feed)
            slots = asyncio.Semaphore(_LOOKS_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for peer, feeds in by_peer.items():
                    await slots.acquire()
                    look = group.create_task(self._look_again(peer, feeds))
                    look.add_done_callback(lambda _, slots=slots: slots.release())  # type: ignore[misc]

    async def _look_again(self, peer: Peer, feeds: list[Feed]) -> None:
        try:
            selectors = await self._known.look_again(peer, before=feeds[0].selectors)
        except CitadelError as error:
            log.info("a caller is gone", peer=peer.name, why=error.message)
            self._end(feeds)
            return
        except Exception:  # a defect that one caller can bring about must not end the service of all
            log.exception("a caller could not be looked at", peer=peer.name)
            self._end(feeds)
            return
        for feed in feeds:
            self._found_again(feed, selectors)

    def _end(self, feeds: list[Feed]) -> None:
        for feed in feeds:
            feed.end()

    def _found_again(self, feed: Feed, selectors: frozenset[Selector]) -> None:
        if feed not in self._feeds:  # its stream ended meanwhile
            return
        if selectors != feed.selectors:
            self._unfile(feed)
            feed.selectors = selectors
            self._file(feed)
        self._match(feed)

    def entries_changed(self, before: Mapping[str, AssignedEntry], entry_ids: Collection[str]) -> None:
        affected: set[Feed] = set()
        for entry_id in entry_ids:
            old, new = before.get(entry_id), self._identities.entries.get(entry_id)
            if old is not None:
                self._index.discard(old)
                affected |= self._users.get(entry_id, set())
            if new is not None:
                self._index.add(new)
                affected |= self._having(new.selectors)
        for feed in affected:
            self._match(feed)

    def uses(self, entry_id: str) -> bool:
        return entry_id in self._users

    def identity_changed(self, entry_id: str) -> None:
        for feed in list(self._users.get(entry_id, ())):
            self._show(feed)

    def bundles_changed(self) -> None:
        for feed in list(self._feeds):
            self._show(feed)

    def _one(self, selectors: frozenset[Selector]) -> frozenset[Selector]:
        if selectors != self._recent_selectors:
            self._recent_selectors = selectors
        return self._recent_selectors

    def _having(self, selectors: frozenset[Selector]) -> set[Feed]:
        """The feeds of processes that have all of `selectors`."""
        found: set[Feed] | None = None
        for selector in selectors:
            having = self._by_selector.get(selector)
            if having is None:
                return set()
            found = having if found is None else found & having
        return found or set()

    def _file(self, feed: Feed) -> None:
        for selector in feed.selectors:
            self._by_selector.setdefault(selector, set()).add(feed)

    def _unfile(self, feed: Feed) -> None:
        for selector in feed.selectors:
            having = self._by_selector[selector]
            having.discard(feed)
            if not having:
                del self._by_selector[selector]

    def _match(self, feed: Feed) -> None:
        self._forget(feed)
        feed.entries = self._index.matching(feed.selectors)
        for entry in feed.entries:
            self._users.setdefault(entry.id, set()).add(feed)
        self._show(feed)

    def _forget(self, feed: Feed) -> None:
        for entry in feed.entries:
            users = self._users.get(entry.id)
            if users is not None:
                users.discard(feed)
                if not users:
                    del self._users[entry.id]

    def _show(self, feed: Feed) -> None:
        """Compute the feed's view. What it once had and may have no more it keeps until that expires: an Envoy that is
        left without a secret, or with an empty one, is worse off than one whose last certificate runs out."""
        now = self._clock.now()
        lasting = {i: held for i, held in feed.shown.items() if held.not_after > now}
        found = {e.id: self._identities.identity(e.id) or lasting.get(e.id) for e in feed.entries}
        feed.shown = {i: held for i, held in found.items() if held is not None} | {
            i: held for i, held in lasting.items() if i not in found
        }
        if not feed.entries and not feed.shown:
            self._put(feed, View(self._trust_domain, (), {}))
            return
        wanted = {self._trust_domain}.union(*(e.federates_with for e in feed.entries))
        bundles = {name: bundle for name, bundle in self._identities.bundles.items() if name in wanted}
        pending = bool(feed.entries) and found[feed.entries[0].id] is None
        self._put(feed, View(self._trust_domain, tuple(feed.shown.values()), bundles, default_pending=pending))

    def _put(self, feed: Feed, view: View) -> None:
        if view != self._recent:
            self._recent = view
        feed.put(self._recent)
