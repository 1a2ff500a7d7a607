"""The roster: every entry in memory, who is below whom, and what each node may serve (SPIRE's rule), kept up to date
change by change. Pure: whoever holds it feeds it what the store tells, and the time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakSet

from citadel.registry.model import Entry
from citadel.registry.ports import EntryNews
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId


class Roster:
    """All unexpired entries. An entry whose time is over counts as gone, whether it was deleted yet or not."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._below: dict[SpiffeId, dict[str, Entry]] = {}  # parent: its entries by id
        self._named: dict[SpiffeId, dict[str, Entry]] = {}  # SPIFFE ID: its entries by id
        self._ends: list[tuple[datetime, str]] = []  # a heap; entries that were changed since may still be in it
        self._nodes: WeakSet[NodeEntries] = WeakSet()

    def node(self, node: SpiffeId, selectors: frozenset[Selector] = frozenset()) -> NodeEntries:
        """What `node` may serve, kept up to date for as long as somebody holds it."""
        view = NodeEntries(self, node, selectors)
        self._nodes.add(view)
        return view

    def below(self, parent: SpiffeId) -> Iterable[Entry]:
        return self._below.get(parent, {}).values()

    def named(self, spiffe_id: SpiffeId) -> Iterable[Entry]:
        return self._named.get(spiffe_id, {}).values()

    def is_parent(self, spiffe_id: SpiffeId) -> bool:
        return spiffe_id in self._below

    def update(self, news: EntryNews, now: datetime) -> None:
        """Take in what the store tells."""
        gone = self.entries.keys() - {e.id for e in news.changed} if news.whole else news.gone
        self._replace({**dict.fromkeys(gone), **{e.id: e for e in news.changed}}, now)

    def expire(self, now: datetime) -> None:
        """Drop the entries whose time is over."""
        over: dict[str, Entry | None] = {}
        while self._ends and self._ends[0][0] <= now:
            _, entry_id = heapq.heappop(self._ends)
            entry = self.entries.get(entry_id)
            if entry is not None and entry.expires_at is not None and entry.expires_at <= now:
                over[entry_id] = None
        self._replace(over, now)

    @property
    def next_end(self) -> datetime | None:
        """When `expire` has something to do, at the earliest."""
        return self._ends[0][0] if self._ends else None

    def _replace(self, after: dict[str, Entry | None], now: datetime) -> None:
        changes = []
        for entry_id, new in after.items():
            if new is not None and new.expires_at is not None and new.expires_at <= now:
                new = None
            old = self.entries.get(entry_id)
            if old is not new and old != new:
                changes.append(_Change(entry_id, old, new))
        if not changes:
            return
        rooted = any(self._moves(change) for change in changes)
        for change in changes:
            self._put(change)
        rooted = rooted or any(self._moves(change) for change in changes)
        for node in self._nodes:
            node.follow(changes, rooted=rooted)

    def _moves(self, change: _Change) -> bool:
        """Whether a change may decide about more than its own entry: as things are now, others are below it."""
        return any(self.is_parent(e.spiffe_id) or not self.is_parent(e.parent_id) for e in change.sides())

    def _places(self, entry: Entry) -> tuple[tuple[dict[SpiffeId, dict[str, Entry]], SpiffeId], ...]:
        return (self._below, entry.parent_id), (self._named, entry.spiffe_id)

    def _put(self, change: _Change) -> None:
        old, new = change.before, change.after
        if old is not None:
            for index, key in self._places(old):
                del index[key][old.id]
                if not index[key]:
                    del index[key]
            del self.entries[old.id]
        if new is not None:
            self.entries[new.id] = new
            for index, key in self._places(new):
                index.setdefault(key, {})[new.id] = new
            if new.expires_at is not None:
                heapq.heappush(self._ends, (new.expires_at, new.id))


@dataclass(frozen=True, slots=True)
class _Change:
    entry_id: str
    before: Entry | None
    after: Entry | None

    def sides(self) -> Iterator[Entry]:
        yield from (entry for entry in (self.before, self.after) if entry is not None)


class NodeEntries:
    """The entries whose parent is a node, or an alias of it, or an entry that it may serve itself, however deep.

    A node alias is an entry below `spiffe://<trust domain>/spire/server` whose selectors the node all has.
    """

    def __init__(self, roster: Roster, node: SpiffeId, selectors: frozenset[Selector]) -> None:
        self.node = node
        self._roster = roster
        self._selectors = selectors
        self._server = SpiffeId.of(node.trust_domain, "spire", "server")
        self._parents: set[SpiffeId] = set()  # below which all is the node's; only those that have something below them
        self._readers: WeakSet[NodeReader] = WeakSet()
        self.entries: dict[str, Entry] = {}
        self._look_at_all()

    def reader(self) -> NodeReader:
        """Somebody who follows. Its first `take` gives everything."""
        reader = NodeReader(self)
        self._readers.add(reader)
        return reader

    def follow(self, changes: Iterable[_Change], *, rooted: bool) -> None:
        """`rooted`: who is below whom may have changed, beyond the changed entries themselves."""
        before = self._parents
        touched = {change.entry_id for change in changes}
        if rooted or any(e.parent_id == self._server for change in changes for e in change.sides()):
            self._parents = self._reach()
            for parent in before ^ self._parents:
                touched.update(e.id for e in self._roster.below(parent))
        self._look_at(touched)

    def _look_at_all(self) -> None:
        self._parents = self._reach()
        self._look_at({e.id for parent in self._parents for e in self._roster.below(parent)})

    def _look_at(self, ids: Iterable[str]) -> None:
        changed = set()
        mine, everybodys, parents = self.entries, self._roster.entries, self._parents
        for entry_id in ids:
            old, entry = mine.get(entry_id), everybodys.get(entry_id)
            if entry is not None and entry.parent_id in parents:
                mine[entry_id] = entry
            elif old is None:
                continue
            else:
                entry = None
                del mine[entry_id]
            if old is None or entry != old:
                changed.add(entry_id)
        if changed:
            for reader in self._readers:
                reader.touched |= changed

    def _reach(self) -> set[SpiffeId]:
        """Cycles end."""
        aliases = [e.spiffe_id for e in self._roster.below(self._server) if e.selectors <= self._selectors]
        reached = {spiffe_id for spiffe_id in (self.node, *aliases) if self._roster.is_parent(spiffe_id)}
        frontier = list(reached)
        while frontier:
            for entry in self._roster.below(frontier.pop()):
                if entry.spiffe_id not in reached and self._roster.is_parent(entry.spiffe_id):
                    reached.add(entry.spiffe_id)
                    frontier.append(entry.spiffe_id)
        return reached


@dataclass(frozen=True, slots=True)
class NodeNews:
    """What changed among a node's entries. `whole`: `changed` is all of them, and what else was known is gone."""

    changed: tuple[Entry, ...]
    gone: frozenset[str] = frozenset()
    whole: bool = False


class NodeReader:
    """How far somebody has read. However far behind, it costs no more than the ids of what changed meanwhile."""

    def __init__(self, node: NodeEntries) -> None:
        self._node = node
        self._begun = False
        self.touched: set[str] = set()

    def take(self) -> NodeNews | None:
        """What changed since the last time; None if nothing did."""
        touched, self.touched = self.touched, set()
        entries = self._node.entries
        if not self._begun:
            self._begun = True
            return NodeNews(tuple(entries.values()), whole=True)
        if not touched:
            return None
        present = [i for i in touched if i in entries]  # touched & entries.keys() looks at every entry there is
        return NodeNews(tuple(entries[i] for i in present), frozenset(touched.difference(present)))
