"""Transactions: each carries its audit records, chained, and announces itself once it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from citadel.audit import GENESIS, AuditEvent, canonical, link
from citadel.changes import Topic
from citadel.store.changes import LocalChanges
from citadel.store.faults import our_errors
from citadel.store.statements import inserting
from citadel.store.tables import AuditRow

_A: Any = AuditRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it


class Transaction:
    """What is inside one: the connection, and the audit records (audit.canonical) and topics that go with it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.bodies: list[bytes] = []
        self.topics: set[Topic] = set()

    async def all(self, statement: Any) -> Sequence[Any]:
        return (await self.connection.execute(statement)).all()

    async def first(self, statement: Any) -> Any | None:
        return (await self.connection.execute(statement)).first()

    async def one_at_a_time(self, table: str) -> None:
        """From here on, of several servers only this one changes `table`: what a rule says of the whole table, no row
        lock guards. SQLite lets one write anyway."""
        if self.connection.dialect.name == "postgresql":
            await self.connection.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))


class Ledger:
    """Runs transactions on one database, one writing one at a time in this process.

    The chain of audit records has one writer, so writers queue here rather than in the database; those who write much
    (issuance) put many records into one transaction.
    """

    def __init__(self, engine: AsyncEngine, changes: LocalChanges, *, writer: str, where: str) -> None:
        self.engine = engine
        self.where = where
        self.writer = writer
        self._changes = changes
        self._insert = inserting(_A, ("writer", "sequence", "hash", "body"), engine.dialect)
        self._turn = asyncio.Lock()
        self._sequence = 0
        self._tip = GENESIS
        self._unsure = False  # a transaction failed: it may be in the database nonetheless

    async def open(self) -> None:
        """Find the end of our chain."""
        async with self.reading() as transaction:
            await self._find_end(transaction)

    async def _find_end(self, transaction: Transaction) -> None:
        end = select(func.max(_A.c.sequence)).where(_A.c.writer == self.writer).scalar_subquery()
        row = await transaction.first(
            select(_A.c.sequence, _A.c.hash).where(_A.c.writer == self.writer, _A.c.sequence == end)
        )
        self._sequence, self._tip = (row[0], bytes(row[1])) if row else (0, GENESIS)
        self._unsure = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        with our_errors(self.where):
            async with self.engine.connect() as connection:
                await connection.execution_options(citadel_reads=True)
                async with connection.begin():
                    yield Transaction(connection)

    @asynccontextmanager
    async def writing(
        self, *events: AuditEvent, topics: Collection[Topic] = (), kind: str = "other"
    ) -> AsyncIterator[Transaction]:
        """All that is done inside, with `events`, becomes durable together when the context is left, or none of it.

        `kind` names it among the metrics.
        """
        async with self._turn:
            with our_errors(self.where):
                async with self.engine.connect() as connection, connection.begin():
                    transaction = Transaction(connection)
                    if self._unsure:
                        await self._find_end(transaction)
                    # When the answer to a COMMIT is lost, only the database knows where our chain ends.
                    self._unsure = True
                    transaction.bodies.extend(map(canonical, events))
                    transaction.topics.update(topics)
                    yield transaction
                    sequence, tip, rows = self._links(transaction.bodies)
                    await self._insert.run(connection, rows)
                    if connection.dialect.name == "postgresql":
                        for topic in transaction.topics:
                            await connection.execute(text("SELECT pg_notify('citadel', :t)"), {"t": str(topic)})
            self._sequence, self._tip = sequence, tip  # only now: what was rolled back is no part of the chain
            self._unsure = False
        self._changes.announce(*transaction.topics)

    def _links(self, bodies: Sequence[bytes]) -> tuple[int, bytes, list[tuple[Any, ...]]]:
        sequence, tip, writer, rows = self._sequence, self._tip, self.writer, []
        for body in bodies:
            sequence += 1
            tip = link(tip, writer, sequence, body)
            rows.append((writer, sequence, tip, body))
        return sequence, tip, rows
