"""Feeds: what one attested caller may have, as it changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, PermissionDenied, ResourceExhausted
from citadel.held import HeldIdentity, View
from citadel.spiffe import TrustDomain
from citadel.workload.attestors import Attestors
from citadel.workload.identities import Identities
from citadel.workload.peer import Peer, PeerTable
from citadel.workload.upstream import AssignedEntry, Selector

log = structlog.get_logger("citadel.workload")


class EntryIndex:
    """Finds the entries whose selectors are all among a process's. Each entry is filed under one of its selectors."""

    def __init__(self, entries: Iterable[AssignedEntry]) -> None:
        self._under: dict[Selector, list[AssignedEntry]] = {}
        entries = list(entries)
        common = Counter(selector for entry in entries for selector in entry.selectors)
        for entry in entries:
            if entry.selectors:  # the rarest one, so that few are looked at in vain
                rarest = min(entry.selectors, key=lambda s: (common[s], s))
                self._under.setdefault(rarest, []).append(entry)

    def matching(self, selectors: frozenset[Selector]) -> list[AssignedEntry]:
        """In the order in which `default` is chosen: created first, equal times by id."""
        found = [e for s in selectors for e in self._under.get(s, ()) if e.selectors <= selectors]
        return sorted(found, key=lambda e: (e.created_at, e.id))


class Feed:
    """Contract: sds.ports.Feed. Updated by Feeds; has no task of its own."""

    def __init__(self, peer: Peer, selectors: frozenset[Selector], trust_domain: TrustDomain) -> None:
        self.peer = peer
        self.selectors = selectors
        self.entries: list[AssignedEntry] = []
        self.shown: dict[str, HeldIdentity] = {}
        self._view = View(trust_domain, (), {})
        self._ended = False
        self._news = asyncio.Event()

    @property
    def view(self) -> View:
        return self._view

    async def changed(self, seen: View) -> View:
        while self._view is seen and not self._ended:
            self._news.clear()
            await self._news.wait()
        if self._ended:
            raise PermissionDenied(f"{self.peer.name} is not who it was")
        return self._view

    def put(self, view: View) -> None:
        if view != self._view:
            self._view = view
            self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()


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
    ) -> None:
        self._table = table
        self._attestors = attestors
        self._identities = identities
        self._clock = clock
        self._trust_domain = trust_domain
        self._recheck = recheck.total_seconds()
        self.streams_per_uid = streams_per_uid
        self._feeds: set[Feed] = set()
        self._users: dict[str, set[Feed]] = {}  # entry id: the feeds that show it
        self._per_uid: Counter[int] = Counter()
        self._index = EntryIndex(())
        identities.listen(self._changed)

    @asynccontextmanager
    async def open(self, peer: str) -> AsyncIterator[tuple[Peer, Feed]]:
        caller = self._table.lookup(peer)
        if self._per_uid[caller.uid] >= self.streams_per_uid:
            raise ResourceExhausted(f"uid {caller.uid} has {self.streams_per_uid} streams open, which is its quota")
        self._per_uid[caller.uid] += 1
        feed: Feed | None = None
        try:
            feed = Feed(caller, await self._attestors.attest(caller), self._trust_domain)
            self._feeds.add(feed)
            self._match(feed)
            yield caller, feed
        finally:
            self._per_uid[caller.uid] -= 1
            if not self._per_uid[caller.uid]:
                del self._per_uid[caller.uid]
            if feed is not None:
                self._feeds.discard(feed)
                self._forget(feed)

    async def run(self) -> None:
        """Look at every caller again now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._recheck)
            for feed in list(self._feeds):
                await self._look_again(feed)

    async def _look_again(self, feed: Feed) -> None:
        try:
            selectors = await self._attestors.attest(feed.peer)
        except CitadelError as error:
            log.info("a caller is gone", peer=feed.peer.name, why=error.message)
            feed.end()
            return
        if selectors != feed.selectors:
            feed.selectors = selectors
        self._match(feed)

    def _changed(self, entries: frozenset[str] | None) -> None:
        if entries is None:
            self._index = EntryIndex(self._identities.entries.values())
            for feed in list(self._feeds):
                self._match(feed)
            return
        for feed in {feed for entry_id in entries for feed in self._users.get(entry_id, ())}:
            self._show(feed)

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
        current = {e.id: held for e in feed.entries if (held := self._identities.identity(e.id)) is not None}
        kept = {i: held for i, held in feed.shown.items() if i not in current and held.not_after > now}
        feed.shown = current | kept
        if not feed.entries and not feed.shown:
            feed.put(View(self._trust_domain, (), {}))
            return
        wanted = {self._trust_domain}.union(*(e.federates_with for e in feed.entries))
        bundles = {name: bundle for name, bundle in self._identities.bundles.items() if name in wanted}
        feed.put(View(self._trust_domain, tuple(feed.shown.values()), bundles))
