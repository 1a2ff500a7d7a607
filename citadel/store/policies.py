"""Versions of the set of policies. Contract: authz.stored.ports.PolicyStore.

A row of `policy_documents` is one form of a document, with the versions that it was in: a change writes what changed,
and every version can be read again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, union, update

from citadel.audit import AuditEvent
from citadel.authz.model import Kind, PolicyName
from citadel.authz.stored.model import DocumentKey, StoredDocument, StoredSet, Version
from citadel.changes import Topic
from citadel.errors import Aborted, NotFound
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import PolicyDocumentRow, PolicyVersionRow, from_micros, to_micros

_V: Any = PolicyVersionRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_D: Any = PolicyDocumentRow.__table__  # type: ignore[attr-defined]  # as above
_ORDER = (_D.c.kind, _D.c.namespace, _D.c.name)
_END = (
    update(_D)
    .where(_D.c.kind == bindparam("k"), _D.c.namespace == bindparam("ns"), _D.c.name == bindparam("n"))
    .where(_D.c.until.is_(None))
    .values(until=bindparam("at"))
)


class SqlPolicyStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def current(self) -> StoredSet:
        async with self._ledger.reading() as transaction:
            version = await _newest(transaction)
            return StoredSet(version, await _documents(transaction, _D.c.until.is_(None)))

    async def newest(self) -> Version | None:
        async with self._ledger.reading() as transaction:
            return await _newest(transaction)

    async def at(self, number: int) -> StoredSet:
        then = (_D.c.since <= number) & or_(_D.c.until.is_(None), _D.c.until > number)
        async with self._ledger.reading() as transaction:
            row = await transaction.first(select(_V).where(_V.c.number == number))
            if row is None:
                raise NotFound(f"there is no version v{number} of the policies", mend="see: citadel policy history")
            return StoredSet(_version(row), await _documents(transaction, then))

    async def versions(self, limit: int, before: int | None = None, key: DocumentKey | None = None) -> list[Version]:
        query = select(_V).order_by(_V.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(_V.c.number < before)
        if key is not None:
            its = (_D.c.kind == key.kind) & (_D.c.namespace == key.name.namespace) & (_D.c.name == key.name.name)
            ended = select(_D.c.until).where(its, _D.c.until.is_not(None))
            query = query.where(_V.c.number.in_(union(select(_D.c.since).where(its), ended)))
        async with self._ledger.reading() as transaction:
            return [_version(row) for row in await transaction.all(query)]

    async def version_of(self, set_version: str) -> Version | None:
        query = select(_V).where(_V.c.set_version == set_version).order_by(_V.c.number.desc()).limit(1)
        async with self._ledger.reading() as transaction:
            row = await transaction.first(query)
        return None if row is None else _version(row)

    async def commit(
        self, version: Version, put: Sequence[StoredDocument], gone: Collection[DocumentKey], audit: AuditEvent
    ) -> None:
        async with self._ledger.writing(audit, topics=[Topic.POLICIES]) as transaction:
            await transaction.one_at_a_time("policy_versions")
            row = await transaction.first(select(func.max(_V.c.number)))
            newest = (row[0] if row else None) or 0
            if version.number != newest + 1:
                raise Aborted(f"the newest version of the policies is v{newest}, not v{version.number - 1}")
            await transaction.connection.execute(insert(_V).values(_values(version)))
            ended = [{**_key(key, "k", "ns", "n"), "at": version.number} for key in (*(one.key for one in put), *gone)]
            if ended:
                await transaction.connection.execute(_END, ended)
            begun = [
                {**_key(one.key, "kind", "namespace", "name"), "since": version.number, "body": one.body} for one in put
            ]
            if begun:
                await transaction.connection.execute(insert(_D), begun)


async def _newest(transaction: Transaction) -> Version | None:
    row = await transaction.first(select(_V).order_by(_V.c.number.desc()).limit(1))
    return None if row is None else _version(row)


async def _documents(transaction: Transaction, which: Any) -> tuple[StoredDocument, ...]:
    rows = await transaction.all(select(_D).where(which).order_by(*_ORDER))
    found = [
        StoredDocument(DocumentKey(Kind(row.kind), PolicyName(row.namespace, row.name)), row.body, row.since)
        for row in rows
    ]
    return tuple(sorted(found, key=lambda one: one.key))  # databases order text each in its own way


def _key(key: DocumentKey, *names: str) -> dict[str, str]:
    return dict(zip(names, (key.kind.value, key.name.namespace, key.name.name), strict=True))


def _values(version: Version) -> dict[str, Any]:
    rest = asdict(version)
    number, set_version = rest.pop("number"), rest.pop("set_version")
    rest.pop("at")
    return {
        "number": number,
        "at": to_micros(version.at),
        "set_version": set_version,
        "body": json.dumps(rest, separators=(",", ":")),
    }


def _version(row: Any) -> Version:
    return Version(number=row.number, at=from_micros(row.at), set_version=row.set_version, **json.loads(row.body))
