"""The directory of entities. Contract: authz.entities.EntityStore."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from citadel.audit import AuditEvent
from citadel.authz.entities.directory import Actor, Entity, EntityDirectory
from citadel.authz.entities.ports import EntityKey, EntityVersion
from citadel.changes import Topic
from citadel.errors import Aborted
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import EntityRow, EntityVersionRow

_E: Any = EntityRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_V: Any = EntityVersionRow.__table__  # type: ignore[attr-defined]  # as above


class SqlEntityStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def current(self) -> EntityVersion:
        async with self._ledger.reading() as transaction:
            number = await _number(transaction)
            found = [_read(row) for row in await transaction.all(select(_E))]
        entities = (one for one in found if isinstance(one, Entity))
        return EntityVersion(number, EntityDirectory(entities, (one for one in found if isinstance(one, Actor))))

    async def number(self) -> int:
        async with self._ledger.reading() as transaction:
            return await _number(transaction)

    async def page(self, after: str, limit: int, kind: str | None = None) -> tuple[Sequence[Entity | Actor], str]:
        query = select(_E).where(_E.c.key > after).order_by(_E.c.key).limit(limit)
        if kind is not None:
            query = query.where(_E.c.type == _type(kind))
        async with self._ledger.reading() as transaction:
            rows = await transaction.all(query)
        return list(map(_read, rows)), rows[-1].key if len(rows) == limit else ""

    async def commit(
        self, number: int, put: Sequence[Entity | Actor], gone: Collection[EntityKey], audit: AuditEvent
    ) -> None:
        async with self._ledger.writing(audit, topics=[Topic.ENTITIES]) as transaction:
            await transaction.one_at_a_time("entity_versions")
            now = await _number(transaction)
            if number != now + 1:
                raise Aborted(f"the directory of entities is v{now}, not v{number - 1}: it was changed meanwhile")
            written = [_values(one) for one in put]
            ended = [*(one["key"] for one in written), *map(_digest, gone)]
            if ended:
                ending = delete(_E).where(_E.c.key == bindparam("k"))
                await transaction.connection.execute(ending, [{"k": key} for key in ended])
            if written:
                await transaction.connection.execute(insert(_E), written)
            await transaction.connection.execute(delete(_V))
            await transaction.connection.execute(insert(_V).values(number=number))


async def _number(transaction: Transaction) -> int:
    row = await transaction.first(select(_V.c.number))
    return 0 if row is None else int(row.number)


def _digest(key: EntityKey) -> str:
    """Types and ids are of any length, and databases order text each in its own way."""
    return hashlib.sha256(json.dumps([key.type, key.id]).encode()).hexdigest()


def _type(kind: str | None) -> str | None:
    """In JSON: PostgreSQL's text has no NUL."""
    return None if kind is None else json.dumps(kind)


def _values(one: Entity | Actor) -> dict[str, Any]:
    key = EntityKey.of(one)
    body: dict[str, Any] = {"id": key.id, "properties": dict(one.properties)}
    if isinstance(one, Actor):
        body["resource_types"] = sorted(one.resource_types)
    return {"key": _digest(key), "type": _type(key.type), "body": json.dumps(body, separators=(",", ":"))}


def _read(row: Any) -> Entity | Actor:
    body = json.loads(row.body)
    if row.type is None:
        return Actor(body["id"], body["properties"], frozenset(body["resource_types"]))
    return Entity(json.loads(row.type), body["id"], body["properties"])
