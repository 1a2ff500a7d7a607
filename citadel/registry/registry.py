"""Registry: the use cases on registration entries, each with its audit record."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from citadel.audit import AuditEvent
from citadel.clock import Clock
from citadel.errors import AlreadyExists, BadFile, Conflicts, InvalidInput, Mistake, NotFound
from citadel.registry import apply, validate
from citadel.registry.model import Entry
from citadel.registry.ports import Edit, EntryQuery, EntryStore
from citadel.spiffe import TrustDomain

_EXPIRE_BATCH = 500


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """TTLs that an entry may ask for. An entry that asks for zero gets the server's default."""

    min_ttl: timedelta
    max_ttl: timedelta


class Registry:
    def __init__(
        self,
        store: EntryStore,
        trust_domain: TrustDomain,
        clock: Clock,
        policy: RegistryPolicy,
        *,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._store = store
        self._trust_domain = trust_domain
        self._clock = clock
        self._new_id = new_id
        self.policy = policy

    async def create(
        self, entries: Sequence[Entry], actor: str, *, reason: str = "", dry_run: bool = False
    ) -> list[Entry]:
        """Create all of `entries` (an empty id gets one), or none. Raises InvalidInput with every fault of all of them,
        AlreadyExists with every one that is there already; if there are faults, these are among them."""
        named = [entry if entry.id else replace(entry, id=self._new_id()) for entry in entries]
        now = self._clock.now()
        edit = Edit(create=[(entry, _event(now, actor, "entry.create", entry, reason)) for entry in named])
        return await self._carry_out(edit, named, now, dry_run=dry_run)

    async def update(self, entries: Sequence[Entry], actor: str, *, reason: str = "") -> list[Entry]:
        """Replace entries whole, each at the revision that was read. Raises InvalidInput, NotFound, Aborted."""
        now = self._clock.now()
        edit = Edit(update=[(entry, _event(now, actor, "entry.update", entry, reason)) for entry in entries])
        return await self._carry_out(edit, entries, now)

    async def delete(self, entry_ids: Sequence[str], actor: str, *, reason: str = "") -> None:
        """Delete all of these, or none. Raises NotFound."""
        now = self._clock.now()
        entries = await self._store.get_all(list(dict.fromkeys(entry_ids)))
        await self._delete(entries, now, actor, reason)

    async def apply(
        self, wanted: Sequence[Entry], apply_set: str, actor: str, *, prune: bool = False, dry_run: bool = False
    ) -> apply.Plan:
        """Make the entries of `apply_set` what `wanted` says, in one transaction. Returns what was (or would be) done.

        Raises InvalidInput with every fault, AlreadyExists if entries outside the set are in the way, as `create` does.
        """
        if not apply_set:
            raise InvalidInput("an apply set needs a name")
        now = self._clock.now()
        plan = apply.plan(
            wanted, await self._store.find(EntryQuery(apply_set=apply_set, limit=sys.maxsize)), apply_set, prune=prune
        )
        plan = replace(plan, create=tuple(e if e.id else replace(e, id=self._new_id()) for e in plan.create))
        edit = Edit(
            create=[(e, _event(now, actor, "entry.create", e, f"apply {apply_set}")) for e in plan.create],
            update=[(e, _event(now, actor, "entry.update", e, f"apply {apply_set}")) for _, e in plan.update],
            delete=[(e.id, _event(now, actor, "entry.delete", e, f"apply {apply_set}")) for e in plan.delete],
        )
        if edit.create or edit.update or edit.delete:
            await self._carry_out(edit, wanted, now, dry_run=dry_run)
        return plan

    async def get(self, entry_id: str) -> Entry:
        return await self._store.get(entry_id)

    async def get_all(self, entry_ids: Sequence[str]) -> list[Entry]:
        """In the order given. Raises NotFound."""
        return await self._store.get_all(entry_ids)

    async def find(self, query: EntryQuery) -> list[Entry]:
        return await self._store.find(query)

    async def count(self, query: EntryQuery) -> int:
        return await self._store.count(query)

    async def expire(self) -> int:
        """Delete entries whose time is over, in batches; how many."""
        total = 0
        while old := await self._store.expired(self._clock.now(), _EXPIRE_BATCH):
            total += await self._expire(old)
        return total

    async def _expire(self, old: Sequence[Entry]) -> int:
        now = self._clock.now()
        try:
            await self._delete(old, now, "system:expire", "its time is over")
        except NotFound:  # somebody else deletes at the same time: one by one, and what is gone is gone
            if len(old) == 1:
                return 0
            return sum([await self._expire([entry]) for entry in old])
        return len(old)

    async def _delete(self, entries: Sequence[Entry], now: datetime, actor: str, reason: str) -> None:
        """The audit record says who it was: later nobody can look it up."""
        if entries:
            edit = Edit(delete=[(e.id, _event(now, actor, "entry.delete", e, reason)) for e in entries])
            await self._store.edit(edit, now)

    async def _carry_out(
        self, edit: Edit, given: Sequence[Entry], now: datetime, *, dry_run: bool = False
    ) -> list[Entry]:
        """Do `edit`, made of the entries that were `given`, or only look whether it could be done."""
        entries = [entry for entry, _ in (*edit.create, *edit.update)]
        rules = validate.EntryRules(self._trust_domain, self.policy.min_ttl, self.policy.max_ttl)
        places = _Places(given)
        mistakes = [
            places.mistake(entry, field, text)
            for entry in entries
            for field, text in validate.faults(entry, rules, now)
        ]
        refused: AlreadyExists | None = None
        if not mistakes and not dry_run:
            try:
                return await self._store.edit(edit, now)
            except AlreadyExists as error:
                refused = error
        taken = [places.conflict(*found) for found in await self._store.in_the_way(edit)]
        if mistakes:
            raise BadFile([*mistakes, *taken])
        if taken:
            raise Conflicts("\n".join(map(str, taken)))
        if refused is not None:  # what was in the way is gone by now
            raise refused
        return entries


class _Places:
    """Where an entry stands among those that were given, if there are several: `entries[2]`."""

    def __init__(self, given: Sequence[Entry]) -> None:
        self._places = {apply.key(entry): f"entries[{n}]" for n, entry in reversed(list(enumerate(given)))}
        self._several = len(given) > 1

    def mistake(self, entry: Entry, field: str, text: str) -> Mistake:
        if not self._several:
            return Mistake(entry.spiffe_id.uri, field, text)
        return Mistake(self._places[apply.key(entry)], field, text, document=entry.spiffe_id.uri)

    def conflict(self, entry: Entry, field: str, text: str) -> Mistake:
        """The text names the entry."""
        return Mistake(self._places[apply.key(entry)], field, text) if self._several else Mistake("", "", text)


def _event(at: datetime, actor: str, action: str, entry: Entry, reason: str) -> AuditEvent:
    detail = {
        "spiffe_id": entry.spiffe_id.uri,
        "parent_id": entry.parent_id.uri,
        "selectors": " ".join(map(str, sorted(entry.selectors))),
    }
    return AuditEvent(at, actor, action, entry.id, detail, reason)
