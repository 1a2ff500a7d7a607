"""Entries in memory (contract: registry.ports.EntryStore), and entries to try things with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from citadel.audit import AuditEvent
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.registry import Entry, Selector
from citadel.registry.ports import Edit, EntryQuery, Match
from citadel.spiffe import SpiffeId, TrustDomain

TD = TrustDomain("example.org")
NODE = SpiffeId.of(TD, "spire", "agent", "local")


def entry(name: str, /, *selectors: str, parent: str = "", **changes: Any) -> Entry:
    """An entry of `/name`, on the local node unless `parent` (a path) is given; its id is the name."""
    given = frozenset(Selector.parse(text) for text in selectors or ("unix:uid:1000",))
    below = SpiffeId.parse(f"spiffe://{TD}{parent}") if parent else NODE
    return replace(Entry(name.replace("/", "."), SpiffeId.of(TD, *name.split("/")), below, given), **changes)


_COMPARE: dict[Match, Callable[[frozenset[Any], frozenset[Any]], bool]] = {
    Match.EXACT: frozenset.__eq__,
    Match.SUBSET: frozenset.issubset,
    Match.SUPERSET: frozenset.issuperset,
    Match.ANY: lambda own, given: not own.isdisjoint(given),
}


class MemoryEntryStore:
    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.events: list[AuditEvent] = []

    async def edit(self, edit: Edit, at: datetime) -> list[Entry]:
        after = dict(self.entries)
        for entry_id, _ in edit.delete:
            if after.pop(entry_id, None) is None:
                raise NotFound(f"there is no entry {entry_id!r}")
        stored = []
        for new, _ in edit.create:
            if new.id in after:
                raise AlreadyExists(f"the entry id {new.id} is taken")
            stored.append(self._put(after, replace(new, revision=0, created_at=at)))
        for new, _ in edit.update:
            old = after.get(new.id)
            if old is None:
                raise NotFound(f"there is no entry {new.id!r}")
            if old.revision != new.revision:
                raise Aborted(f"the entry {new.id} was changed meanwhile")
            stored.append(self._put(after, replace(new, revision=old.revision + 1, created_at=old.created_at)))
        self.entries = after
        self.events += [event for part in (edit.create, edit.update, edit.delete) for _, event in part]
        return stored

    def _put(self, entries: dict[str, Entry], new: Entry) -> Entry:
        if not new.selectors:
            raise InvalidInput(f"the entry {new.id} has no selectors")
        for old in entries.values():
            if old.id != new.id and _key(old) == _key(new):
                raise AlreadyExists(f"{new.spiffe_id} is registered already", mend=f"see: citadel entry show {old.id}")
        entries[new.id] = new
        return new

    async def get(self, entry_id: str) -> Entry:
        if entry_id not in self.entries:
            raise NotFound(f"there is no entry {entry_id!r}")
        return self.entries[entry_id]

    async def find(self, query: EntryQuery) -> list[Entry]:
        return [e for e in await self.all() if e.id > query.after and _matches(e, query)][: query.limit]

    async def count(self, query: EntryQuery) -> int:
        return sum(_matches(e, query) for e in self.entries.values())

    async def all(self) -> list[Entry]:
        return [self.entries[entry_id] for entry_id in sorted(self.entries)]

    async def expired(self, at: datetime, limit: int) -> list[Entry]:
        return [e for e in self.entries.values() if e.expires_at is not None and e.expires_at <= at][:limit]


def _key(entry: Entry) -> tuple[object, ...]:
    return entry.spiffe_id, entry.parent_id, entry.selectors


def _matches(e: Entry, query: EntryQuery) -> bool:
    wanted = (
        (query.spiffe_id, e.spiffe_id),
        (query.parent_id, e.parent_id),
        (query.hint, e.hint),
        (query.downstream, e.downstream),
        (query.apply_set, e.apply_set),
    )
    sets: list[tuple[tuple[frozenset[Any], Match] | None, frozenset[Any]]] = [
        (query.selectors, e.selectors),
        (query.federates_with, e.federates_with),
    ]
    return all(given is None or given == own for given, own in wanted) and all(
        given is None or _COMPARE[given[1]](own, given[0]) for given, own in sets
    )
