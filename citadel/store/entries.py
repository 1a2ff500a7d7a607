"""Registration entries as a table. Contract: registry.ports.EntryStore."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from citadel.changes import Topic
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.registry.model import Entry
from citadel.registry.ports import Edit, EntryQuery, Match
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import EntryRow, from_micros, to_micros

_E: Any = EntryRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_PAGE = 500


class SqlEntryStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def edit(self, edit: Edit, at: datetime) -> list[Entry]:
        events = [event for part in (edit.create, edit.update, edit.delete) for _, event in part]
        stored: list[Entry] = []
        async with self._ledger.writing(*events, topics=[Topic.ENTRIES]) as transaction:
            for entry_id, _ in edit.delete:  # first: what is deleted is in nobody's way
                gone = await transaction.connection.execute(delete(_E).where(_E.c.id == entry_id))
                if gone.rowcount != 1:
                    raise _missing(entry_id)
            for entry, _ in edit.create:
                stored.append(await self._create(transaction, replace(entry, revision=0, created_at=at)))
            for entry, _ in edit.update:
                stored.append(await self._update(transaction, entry))
        return stored

    async def _create(self, transaction: Transaction, entry: Entry) -> Entry:
        await self._refuse_duplicate(transaction, entry)
        if await transaction.first(select(_E.c.id).where(_E.c.id == entry.id)):
            raise AlreadyExists(f"the entry id {entry.id} is taken", mend=f"see: citadel entry show {entry.id}")
        await self._write(transaction, insert(_E).values(_row(entry)), entry)
        return entry

    async def _update(self, transaction: Transaction, entry: Entry) -> Entry:
        row = await transaction.first(select(_E).where(_E.c.id == entry.id).with_for_update())
        if row is None:
            raise _missing(entry.id)
        if row.revision != entry.revision:
            raise Aborted(f"the entry {entry.id} was changed meanwhile", mend="read it again, then change it")
        await self._refuse_duplicate(transaction, entry)
        changed = replace(entry, revision=entry.revision + 1, created_at=from_micros(row.created_at))
        await self._write(transaction, update(_E).where(_E.c.id == entry.id).values(_row(changed)), entry)
        return changed

    async def _write(self, transaction: Transaction, statement: Any, entry: Entry) -> None:
        try:
            await transaction.connection.execute(statement)
        except IntegrityError as error:  # another server was quicker
            raise AlreadyExists(f"the entry {entry.id} or one like it has just been created") from error

    async def _refuse_duplicate(self, transaction: Transaction, entry: Entry) -> None:
        if not entry.selectors:
            raise InvalidInput(f"the entry {entry.id} has no selectors: everybody would match it")
        row = await transaction.first(select(_E.c.id).where(_E.c.key == _key(entry), _E.c.id != entry.id))
        if row is not None:
            raise AlreadyExists(
                f"{entry.spiffe_id} with these selectors and this parent is registered already",
                mend=f"see: citadel entry show {row.id}",
            )

    async def get(self, entry_id: str) -> Entry:
        async with self._ledger.reading() as transaction:
            row = await transaction.first(select(_E).where(_E.c.id == entry_id))
        if row is None:
            raise _missing(entry_id)
        return _entry(row)

    async def find(self, query: EntryQuery) -> list[Entry]:
        found: list[Entry] = []
        after = query.after
        async with self._ledger.reading() as transaction:
            while len(found) < query.limit:
                statement = _narrowed(select(_E), query).where(_E.c.id > after).order_by(_E.c.id).limit(_PAGE)
                rows = await transaction.all(statement)
                found += [entry for entry in map(_entry, rows) if _matches(entry, query)]
                if len(rows) < _PAGE:
                    break
                after = rows[-1].id
        return found[: query.limit]

    async def count(self, query: EntryQuery) -> int:
        plain = (query.selectors, query.federates_with, query.hint, query.downstream) == (None, None, None, None)
        if not plain:
            return len(await self.find(replace(query, limit=1 << 30, after="")))
        async with self._ledger.reading() as transaction:
            row = await transaction.first(_narrowed(select(func.count()).select_from(_E), query))
        return int(row[0]) if row else 0

    async def all(self) -> list[Entry]:
        async with self._ledger.reading() as transaction:
            return [_entry(row) for row in await transaction.all(select(_E).order_by(_E.c.id))]

    async def expired(self, at: datetime, limit: int) -> list[Entry]:
        old = select(_E).where(_E.c.expires_at <= to_micros(at)).order_by(_E.c.expires_at).limit(limit)
        async with self._ledger.reading() as transaction:
            return [_entry(row) for row in await transaction.all(old)]


def _missing(entry_id: str) -> NotFound:
    return NotFound(f"there is no entry {entry_id!r}", mend="see: citadel entry list")


def _narrowed(statement: Any, query: EntryQuery) -> Any:
    if query.spiffe_id is not None:
        statement = statement.where(_E.c.spiffe_id == query.spiffe_id.uri)
    if query.parent_id is not None:
        statement = statement.where(_E.c.parent_id == query.parent_id.uri)
    if query.apply_set is not None:
        statement = statement.where(_E.c.apply_set == query.apply_set)
    return statement


_COMPARE: dict[Match, Callable[[frozenset[Any], frozenset[Any]], bool]] = {
    Match.EXACT: lambda own, given: own == given,
    Match.SUBSET: lambda own, given: own <= given,
    Match.SUPERSET: lambda own, given: own >= given,
    Match.ANY: lambda own, given: bool(own & given),
}


def _matches(entry: Entry, query: EntryQuery) -> bool:
    if query.selectors and not _COMPARE[query.selectors[1]](entry.selectors, query.selectors[0]):
        return False
    if query.federates_with and not _COMPARE[query.federates_with[1]](entry.federates_with, query.federates_with[0]):
        return False
    if query.hint is not None and entry.hint != query.hint:
        return False
    return query.downstream is None or entry.downstream == query.downstream


def _key(entry: Entry) -> str:
    parts: Sequence[str] = [entry.spiffe_id.uri, entry.parent_id.uri, *map(str, sorted(entry.selectors))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _row(entry: Entry) -> dict[str, Any]:
    body = {
        "selectors": [[s.type, s.value] for s in sorted(entry.selectors)],
        "x509_ttl": entry.x509_ttl.total_seconds(),
        "jwt_ttl": entry.jwt_ttl.total_seconds(),
        "dns_names": list(entry.dns_names),
        "federates_with": sorted(map(str, entry.federates_with)),
        "hint": entry.hint,
        "admin": entry.admin,
        "downstream": entry.downstream,
        "store_svid": entry.store_svid,
        "labels": [list(pair) for pair in entry.labels],
    }
    return {
        "id": entry.id,
        "key": _key(entry),
        "spiffe_id": entry.spiffe_id.uri,
        "parent_id": entry.parent_id.uri,
        "apply_set": entry.apply_set,
        "expires_at": None if entry.expires_at is None else to_micros(entry.expires_at),
        "revision": entry.revision,
        "created_at": 0 if entry.created_at is None else to_micros(entry.created_at),
        "body": json.dumps(body, separators=(",", ":")),
    }


def _entry(row: Any) -> Entry:
    body = json.loads(row.body)
    return Entry(
        id=row.id,
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        parent_id=SpiffeId.parse(row.parent_id),
        selectors=frozenset(Selector(kind, value) for kind, value in body["selectors"]),
        x509_ttl=timedelta(seconds=body["x509_ttl"]),
        jwt_ttl=timedelta(seconds=body["jwt_ttl"]),
        dns_names=tuple(body["dns_names"]),
        federates_with=frozenset(map(TrustDomain, body["federates_with"])),
        hint=body["hint"],
        admin=body["admin"],
        downstream=body["downstream"],
        store_svid=body["store_svid"],
        expires_at=None if row.expires_at is None else from_micros(row.expires_at),
        revision=row.revision,
        created_at=from_micros(row.created_at),
        apply_set=row.apply_set,
        labels=tuple((key, value) for key, value in body["labels"]),
    )
