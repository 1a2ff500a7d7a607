"""Entries in memory (contract: registry.ports.EntryStore), and entries to try things with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from citadel.audit import AuditEvent
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.registry import Entry, Selector
from citadel.registry.ports import Edit, EntryNews, EntryQuery, Match
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
        self.log: list[str] = []  # ids, in order of their changes

    async def edit(self, edit: Edit, at: datetime) -> list[Entry]:
        after = dict(self.entries)
        for entry_id, _ in edit.delete:
            if after.pop(entry_id, None) is None:
                raise NotFound(f"there is no entry {entry_id!r}")
        stored = []
        for new, _ in edit.create:
            if new.id in after:
                raise AlreadyExists(f"the entry id {new.id} is taken")
            after[new.id] = replace(new, revision=0, created_at=at)
            stored.append(new.id)
        for new, _ in edit.update:
            old = after.get(new.id)
            if old is None:
                raise NotFound(f"there is no entry {new.id!r}")
            if old.revision != new.revision:
                raise Aborted(f"the entry {new.id} was changed meanwhile")
            after[new.id] = replace(new, revision=old.revision + 1, created_at=old.created_at)
            stored.append(new.id)
        self._check([after[entry_id] for entry_id in stored], after)
        self.entries = after
        self.log += [*(entry_id for entry_id, _ in edit.delete), *stored]
        self.events += [event for part in (edit.create, edit.update, edit.delete) for _, event in part]
        return [after[entry_id] for entry_id in stored]

    def _check(self, stored: Sequence[Entry], after: Mapping[str, Entry]) -> None:
        ids: dict[object, list[str]] = {}
        for one in after.values():
            ids.setdefault(_key(one), []).append(one.id)
        for new in stored:
            if not new.selectors:
                raise InvalidInput(f"the entry {new.id} has no selectors")
            others = [entry_id for entry_id in ids[_key(new)] if entry_id != new.id]
            if others:
                raise AlreadyExists(
                    f"{new.spiffe_id} is registered already", mend=f"see: citadel entry show {others[0]}"
                )

    async def in_the_way(self, edit: Edit) -> list[tuple[Entry, str, str]]:
        left = {one for one, _ in edit.delete} | {entry.id for entry, _ in edit.update}
        ids = self.entries.keys() - {one for one, _ in edit.delete}
        keys = {_key(entry): entry.id for entry in self.entries.values() if entry.id not in left}
        found = []
        for new, _ in (*edit.create, *edit.update):
            if new.id in ids and (new, _) in edit.create:
                found.append((new, "id", f"the entry id {new.id} is taken"))
            elif _key(new) in keys:
                found.append((new, "spiffe_id", f"{new.spiffe_id} is registered already, as {keys[_key(new)]}"))
            ids = ids | {new.id}
            keys.setdefault(_key(new), new.id)
        return found

    async def get(self, entry_id: str) -> Entry:
        if entry_id not in self.entries:
            raise NotFound(f"there is no entry {entry_id!r}")
        return self.entries[entry_id]

    async def get_all(self, entry_ids: Sequence[str]) -> list[Entry]:
        return [await self.get(entry_id) for entry_id in entry_ids]

    async def find(self, query: EntryQuery) -> list[Entry]:
        return [e for e in await self.all() if e.id > query.after and _matches(e, query)][: query.limit]

    async def count(self, query: EntryQuery) -> int:
        return sum(_matches(e, query) for e in self.entries.values())

    async def all(self) -> list[Entry]:
        return [self.entries[entry_id] for entry_id in sorted(self.entries)]

    async def news(self, since: int | None) -> EntryNews:
        if since is None or since > len(self.log):
            return EntryNews(len(self.log), tuple(await self.all()), whole=True)
        ids = set(self.log[since:])
        changed = tuple(self.entries[i] for i in ids & self.entries.keys())
        return EntryNews(len(self.log), changed, frozenset(ids - self.entries.keys()))

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
    fits = e.id.startswith(query.id_prefix) and all(given is None or given == own for given, own in wanted)
    return fits and all(
        given is None or (own and given[0] and _COMPARE[given[1]](own, given[0])) for given, own in sets
    )
