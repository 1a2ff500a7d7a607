"""Registration entries as a table. Contract: registry.ports.EntryStore."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, insert, select, update

from citadel.changes import Topic
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.registry.model import Entry
from citadel.registry.ports import Edit, EntryNews, EntryQuery, Match
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import EntryChangeRow, EntryRow, EntryTermRow, from_micros, to_micros

_E: Any = EntryRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_T: Any = EntryTermRow.__table__  # type: ignore[attr-defined]  # as above
_C: Any = EntryChangeRow.__table__  # type: ignore[attr-defined]  # as above
#: Two queries in one: SQLite would look through the whole log for both ends together.
_LOG_ENDS = select(select(func.min(_C.c.number)).scalar_subquery(), select(func.max(_C.c.number)).scalar_subquery())
_NOBODY: frozenset[TrustDomain] = frozenset()
_PAGE = 1000  # rows, some 10 ms: reading very many must not keep the process from all else for longer
_CHUNK = 500  # values in one IN
_NEWS = 1000  # changes told at once
_LOG_KEPT = 100_000  # changes: who is farther behind reads every entry


class SqlEntryStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._logged = _LOG_KEPT  # changes since the log was shortened; not known at start

    async def edit(self, edit: Edit, at: datetime) -> list[Entry]:
        events = [event for part in (edit.create, edit.update, edit.delete) for _, event in part]
        creations = [replace(entry, revision=0, created_at=at) for entry, _ in edit.create]
        updates = [entry for entry, _ in edit.update]
        gone = [entry_id for entry_id, _ in edit.delete]
        _refuse_twins(creations, updates)
        async with self._ledger.writing(*events, topics=[Topic.ENTRIES]) as transaction:
            await transaction.one_at_a_time("entries")
            await _delete(transaction, gone)  # first: what is deleted is in nobody's way
            present = await _in_the_way(transaction, [*creations, *updates])
            for entry in creations:
                if entry.id in present:
                    raise _taken(entry.id)
            changed = [_counted_up(entry, present.get(entry.id)) for entry in updates]
            _refuse_duplicates(present, [*creations, *changed], {entry.id for entry in changed})
            await _write(transaction, creations, changed)
            await self._log(transaction, [*gone, *(e.id for e in creations), *(e.id for e in changed)])
        return [*creations, *changed]

    async def in_the_way(self, edit: Edit) -> list[tuple[Entry, str, str]]:
        creations, updates = [entry for entry, _ in edit.create], [entry for entry, _ in edit.update]
        left = {entry.id for entry in updates} | {entry_id for entry_id, _ in edit.delete}
        async with self._ledger.reading() as transaction:
            present = await _in_the_way(transaction, [*creations, *updates])
        ids = {row.id for row in present.values()} - {entry_id for entry_id, _ in edit.delete}
        keys = {row.key: row.id for row in present.values() if row.id not in left}
        found: list[tuple[Entry, str, str]] = []
        for place, entry in enumerate((*creations, *updates)):
            if place < len(creations) and entry.id in ids:
                found.append((entry, "id", _taken(entry.id).sentence()))
            elif (other := keys.get(_key(entry))) is not None:
                found.append((entry, "spiffe_id", _duplicate(entry, other).sentence()))
            ids.add(entry.id)
            keys.setdefault(_key(entry), entry.id)
        return found

    async def get(self, entry_id: str) -> Entry:
        return (await self.get_all([entry_id]))[0]

    async def get_all(self, entry_ids: Sequence[str]) -> list[Entry]:
        async with self._ledger.reading() as transaction:
            rows = await _rows_by(transaction, _E.c.id, entry_ids)
        for entry_id in entry_ids:
            if entry_id not in rows:
                raise _missing(entry_id)
        return _Reader().entries([rows[entry_id] for entry_id in entry_ids])

    async def find(self, query: EntryQuery) -> list[Entry]:
        found: list[Entry] = []
        reader = _Reader()
        async with self._ledger.reading() as transaction:
            while (room := query.limit - len(found)) > 0:
                after = found[-1].id if found else query.after
                statement = _narrowed(select(_E), query).where(_E.c.id > after).order_by(_E.c.id)
                rows = await transaction.all(statement.limit(min(room, _PAGE)))
                found += reader.entries(rows)
                if len(rows) < min(room, _PAGE):
                    break
        return found

    async def count(self, query: EntryQuery) -> int:
        async with self._ledger.reading() as transaction:
            row = await transaction.first(_narrowed(select(func.count()).select_from(_E), query))
        return int(row[0]) if row else 0

    async def all(self) -> list[Entry]:
        async with self._ledger.reading() as transaction:
            return await _everything(transaction)

    async def news(self, since: int | None) -> EntryNews:
        async with self._ledger.reading() as transaction:
            ends = await transaction.first(_LOG_ENDS)
            first, last = (ends[0] or 1, ends[1] or 0) if ends else (1, 0)
            if since == last:
                return EntryNews(last, ())
            if since is None or since > last or since < first - 1:  # a log that ends before it: another database
                return EntryNews(last, tuple(await _everything(transaction)), whole=True)
            position = min(last, since + _NEWS)
            newer = select(_C.c.entry_id).where(_C.c.number > since, _C.c.number <= position).distinct().subquery()
            rows = await transaction.all(select(newer.c.entry_id, _E).outerjoin(_E, _E.c.id == newer.c.entry_id))
        changed = tuple(_Reader().entries([row for row in rows if row.id is not None]))
        gone = frozenset(row.entry_id for row in rows if row.id is None)
        return EntryNews(position, changed, gone, more=position < last)

    async def expired(self, at: datetime, limit: int) -> list[Entry]:
        old = select(_E).where(_E.c.expires_at <= to_micros(at)).order_by(_E.c.expires_at).limit(limit)
        async with self._ledger.reading() as transaction:
            return _Reader().entries(await transaction.all(old))

    async def _log(self, transaction: Transaction, ids: Sequence[str]) -> None:
        if not ids:
            return
        await transaction.connection.execute(insert(_C), [{"entry_id": entry_id} for entry_id in ids])
        self._logged += len(ids)
        if self._logged > _LOG_KEPT // 10:
            self._logged = 0
            old = select(func.max(_C.c.number) - _LOG_KEPT).scalar_subquery()
            await transaction.connection.execute(delete(_C).where(_C.c.number <= old))


async def _everything(transaction: Transaction) -> list[Entry]:
    """Page after page, so that reading very many does not keep the process from all else."""
    found: list[Entry] = []
    after = ""
    reader = _Reader()
    while rows := await transaction.all(select(_E).where(_E.c.id > after).order_by(_E.c.id).limit(_PAGE)):
        found += reader.entries(rows)
        after = rows[-1].id
    return found


async def _rows_by(transaction: Transaction, column: Any, values: Sequence[str]) -> dict[str, Any]:
    """The rows of entries whose `column` has one of `values`, by id."""
    found: dict[str, Any] = {}
    for start in range(0, len(values), _CHUNK):
        rows = await transaction.all(select(_E).where(column.in_(values[start : start + _CHUNK])))
        found |= {row.id: row for row in rows}
    return found


def _refuse_twins(creations: Sequence[Entry], updates: Sequence[Entry]) -> None:
    """What is wrong within one edit. Raises InvalidInput, AlreadyExists, Aborted."""
    ids: set[str] = set()
    keys: dict[str, Entry] = {}
    for entry in (*creations, *updates):
        if not entry.selectors:
            raise InvalidInput(f"the entry {entry.id} has no selectors: everybody would match it")
        if entry.id in ids:
            raise _taken(entry.id)
        ids.add(entry.id)
        twin = keys.setdefault(_key(entry), entry)
        if twin is not entry:
            raise _duplicate(entry, twin.id)


async def _in_the_way(transaction: Transaction, entries: Sequence[Entry]) -> dict[str, Any]:
    """The rows, by id, that have the id or the key of one of `entries`."""
    found: dict[str, Any] = {}
    for start in range(0, len(entries), _CHUNK):
        some = entries[start : start + _CHUNK]
        alike = _E.c.id.in_([e.id for e in some]) | _E.c.key.in_([_key(e) for e in some])
        found |= {row.id: row for row in await transaction.all(select(_E).where(alike))}
    return found


def _refuse_duplicates(present: Mapping[str, Any], entries: Sequence[Entry], updated: Collection[str]) -> None:
    keys = {
        row.key: row.id for row in present.values() if row.id not in updated
    }  # those get other keys, or keep theirs
    for entry in entries:
        if (other := keys.get(_key(entry))) is not None:
            raise _duplicate(entry, other)


def _counted_up(entry: Entry, row: Any | None) -> Entry:
    """What an update leaves. Raises NotFound, Aborted."""
    if row is None:
        raise _missing(entry.id)
    if row.revision != entry.revision:
        raise Aborted(f"the entry {entry.id} was changed meanwhile", mend="read it again, then change it")
    return replace(entry, revision=entry.revision + 1, created_at=from_micros(row.created_at))


async def _delete(transaction: Transaction, ids: Sequence[str]) -> None:
    """Raises NotFound, also for one that is named twice."""
    twice = [entry_id for entry_id, count in Counter(ids).items() if count > 1]
    present = await _rows_by(transaction, _E.c.id, ids)
    for entry_id in (*(i for i in ids if i not in present), *twice):
        raise _missing(entry_id)
    await _by_chunks(transaction, ids, lambda some: delete(_E).where(_E.c.id.in_(some)))
    await _by_chunks(transaction, ids, lambda some: delete(_T).where(_T.c.entry_id.in_(some)))


async def _by_chunks(transaction: Transaction, ids: Sequence[str], statement: Callable[[Sequence[str]], Any]) -> None:
    for start in range(0, len(ids), _CHUNK):
        await transaction.connection.execute(statement(ids[start : start + _CHUNK]))


async def _write(transaction: Transaction, creations: Sequence[Entry], updates: Sequence[Entry]) -> None:
    execute = transaction.connection.execute
    ids = [entry.id for entry in updates]
    if updates:
        # Entries may trade places within one edit: none stands in another's way while they move.
        await _by_chunks(transaction, ids, lambda some: update(_E).where(_E.c.id.in_(some)).values(key="-" + _E.c.id))
        columns: dict[Any, Any] = {name: bindparam(f"new_{name}") for name in _row(updates[0]) if name != "id"}
        rows = [{f"new_{name}": value for name, value in _row(entry).items()} for entry in updates]
        await execute(update(_E).where(_E.c.id == bindparam("new_id")).values(columns), rows)
        await _by_chunks(transaction, ids, lambda some: delete(_T).where(_T.c.entry_id.in_(some)))
    if creations:
        await execute(insert(_E), [_row(entry) for entry in creations])
    if terms := [{"term": term, "entry_id": entry.id} for entry in (*creations, *updates) for term in _terms(entry)]:
        await execute(insert(_T), terms)


def _terms(entry: Entry) -> list[str]:
    return [*(f"s:{selector}" for selector in entry.selectors), *(f"f:{name}" for name in entry.federates_with)]


def _taken(entry_id: str) -> AlreadyExists:
    return AlreadyExists(f"the entry id {entry_id} is taken", mend=f"see: citadel entry show {entry_id}")


def _duplicate(entry: Entry, other: str) -> AlreadyExists:
    return AlreadyExists(
        f"{entry.spiffe_id} with these selectors and this parent is registered already",
        mend=f"see: citadel entry show {other}",
    )


def federating(trust_domain: TrustDomain) -> Any:
    """A statement that gives the ids of the entries that federate with a trust domain."""
    return select(_T.c.entry_id).where(_T.c.term == f"f:{trust_domain}")


def _missing(entry_id: str) -> NotFound:
    return NotFound(f"there is no entry {entry_id!r}", mend="see: citadel entry list")


def _narrowed(statement: Any, query: EntryQuery) -> Any:
    if query.spiffe_id is not None:
        statement = statement.where(_E.c.spiffe_id == query.spiffe_id.uri)
    if query.parent_id is not None:
        statement = statement.where(_E.c.parent_id == query.parent_id.uri)
    if query.id_prefix:  # no LIKE: whether that tells upper from lower case depends on the database
        statement = statement.where(func.substr(_E.c.id, 1, len(query.id_prefix)) == query.id_prefix)
    if query.apply_set is not None:
        statement = statement.where(_E.c.apply_set == query.apply_set)
    if query.hint is not None:
        statement = statement.where(_E.c.hint == query.hint)
    if query.downstream is not None:
        statement = statement.where(_E.c.downstream == query.downstream)
    if query.selectors is not None:
        given, match = query.selectors
        statement = _matching(statement, "s:", map(str, given), match)
    if query.federates_with is not None:
        domains, match = query.federates_with
        statement = _matching(statement, "f:", map(str, domains), match)
    return statement


def _matching(statement: Any, kind: str, given: Iterable[str], match: Match) -> Any:
    """Narrowed to the entries whose terms of this kind match those given; see registry.ports.Match."""
    terms = [kind + one for one in given]
    mine = (_T.c.entry_id == _E.c.id) & _T.c.term.startswith(kind, autoescape=True)
    if match is not Match.SUPERSET or not terms:
        statement = statement.where(_E.c.id.in_(select(_T.c.entry_id).where(_T.c.term.in_(terms))))
    if match in (Match.EXACT, Match.SUBSET):
        statement = statement.where(~exists().where(mine, _T.c.term.not_in(terms)))
    if match in (Match.EXACT, Match.SUPERSET):
        for term in terms:
            statement = statement.where(_E.c.id.in_(select(_T.c.entry_id).where(_T.c.term == term)))
    return statement


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
        "hint": entry.hint,
        "downstream": entry.downstream,
        "body": json.dumps(body, separators=(",", ":")),
    }


class _Reader:
    """Makes entries of rows. What many have in common is made, and held, once: an entry costs some 10 µs then."""

    def __init__(self) -> None:
        self._ids: dict[str, SpiffeId] = {}
        self._selectors: dict[tuple[str, str], Selector] = {}
        self._durations: dict[float, timedelta] = {}

    def entries(self, rows: Sequence[Any]) -> list[Entry]:
        bodies = json.loads(f"[{','.join([row.body for row in rows])}]")  # at once: a third of what one by one costs
        return [self._entry(row, body) for row, body in zip(rows, bodies, strict=True)]

    def _entry(self, row: Any, body: dict[str, Any]) -> Entry:
        return Entry(
            id=row.id,
            spiffe_id=SpiffeId.parse(row.spiffe_id),
            parent_id=self._ids.get(row.parent_id) or self._new_id(row.parent_id),
            selectors=frozenset([self._selectors.get((t, v)) or self._new(t, v) for t, v in body["selectors"]]),
            x509_ttl=self._duration(body["x509_ttl"]),
            jwt_ttl=self._duration(body["jwt_ttl"]),
            dns_names=tuple(body["dns_names"]),
            federates_with=frozenset(map(TrustDomain, body["federates_with"])) if body["federates_with"] else _NOBODY,
            hint=body["hint"],
            admin=body["admin"],
            downstream=body["downstream"],
            store_svid=body["store_svid"],
            expires_at=None if row.expires_at is None else from_micros(row.expires_at),
            revision=row.revision,
            created_at=from_micros(row.created_at),
            apply_set=row.apply_set,
            labels=tuple(map(tuple, body["labels"])),
        )

    def _new_id(self, uri: str) -> SpiffeId:
        return self._ids.setdefault(uri, SpiffeId.parse(uri))

    def _new(self, kind: str, value: str) -> Selector:
        return self._selectors.setdefault((kind, value), Selector(kind, value))

    def _duration(self, seconds: float) -> timedelta:
        found = self._durations.get(seconds)
        return self._durations.setdefault(seconds, timedelta(seconds=seconds)) if found is None else found
