"""Transactions: each carries its audit records, chained, and announces itself once it is durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from citadel.audit import GENESIS, AuditEvent, canonical, link
from citadel.changes import Topic
from citadel.errors import CitadelError, Unavailable
from citadel.store.changes import LocalChanges
from citadel.store.faults import DRIVER_ERRORS, our_errors
from citadel.store.ports import StoreMeter, TransactionKind, TransactionOutcome
from citadel.store.statements import inserting
from citadel.store.tables import AuditCheckpointRow, AuditRow
from citadel.store.whole import transaction as whole_transaction

_A: Any = AuditRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_P: Any = AuditCheckpointRow.__table__  # type: ignore[attr-defined]  # as above


class NoMeter:
    """Counts nothing."""

    def transaction(self, kind: TransactionKind, outcome: TransactionOutcome, seconds: float) -> None:
        pass


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

    def __init__(
        self,
        engine: AsyncEngine,
        changes: LocalChanges,
        *,
        writer: str,
        where: str,
        timeout: float,
        meter: StoreMeter | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`guard` is asked at the beginning and at the end of each transaction that writes; it raises if none may."""
        self.engine = engine
        self.guard = guard
        self._timeout = timeout  # seconds
        self._meter = meter or NoMeter()
        self.where = where
        self.writer = writer
        self._changes = changes
        self._insert = inserting(_A, ("writer", "sequence", "hash", "body"), engine.dialect)
        self._turn = asyncio.Lock()
        self.refused = False  # whether the database did not carry out what was last written
        self._milestone = 1
        self._reached = asyncio.Event()
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
        if row is None:  # all of it was pruned
            base = select(_P.c.sequence, _P.c.hash).where(_P.c.writer == self.writer, _P.c.base)
            row = await transaction.first(base.order_by(_P.c.sequence.desc()).limit(1))
        self._sequence, self._tip = (row[0], bytes(row[1])) if row else (0, GENESIS)
        self._unsure = False

    def tip(self) -> tuple[int, bytes] | None:
        """Sequence and hash of our newest link, unless there is none or a failed transaction left that unsure."""
        return None if self._unsure or self._sequence == 0 else (self._sequence, self._tip)

    async def grown_to(self, sequence: int) -> None:
        """Returns when our chain has that many links. One caller at a time."""
        self._milestone = sequence
        self._reached.clear()
        if self._sequence < sequence:
            await self._reached.wait()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """A transaction that sees one state of the database."""
        with self._measured("read"), our_errors(self.where):
            async with whole_transaction(self.engine, reads=True) as connection:
                yield Transaction(connection)

    @asynccontextmanager
    async def writing(
        self, *events: AuditEvent, topics: Collection[Topic] = (), kind: TransactionKind = "write"
    ) -> AsyncIterator[Transaction]:
        """All that is done inside, with `events`, becomes durable together when the context is left, or none of it.

        `kind` names it among the metrics. Raises Unavailable if the database, or the writers before this one, take
        longer than the store's timeout.
        """
        committing = False
        with self._measured(kind):
            async with self._turn_to_write():
                try:
                    with our_errors(self.where):
                        async with whole_transaction(self.engine, reads=False) as connection:
                            transaction = Transaction(connection)
                            self.guard()
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
                            self.guard()
                            committing = True
                except BaseException:
                    if committing:  # perhaps only its answer was lost, and the change is there
                        self._changes.announce(*transaction.topics)
                    raise
                self._sequence, self._tip = sequence, tip  # only now: what was rolled back is no part of the chain
                self._unsure = False
                if sequence >= self._milestone:
                    self._reached.set()
        self._changes.announce(*transaction.topics)

    @asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable(
                f"the database {self.where} was busy for {self._timeout:g} s",
                mend="see what else writes to it, or raise store.timeout",
            ) from None
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _measured(self, kind: TransactionKind) -> Iterator[None]:
        began = time.monotonic()
        outcome: TransactionOutcome = "ok"
        try:
            yield
        except Exception as error:
            if not isinstance(error, CitadelError) or isinstance(error.__cause__, DRIVER_ERRORS):
                outcome = "failed"
            raise
        finally:
            if kind != "read":
                self.refused = outcome == "failed"
            self._meter.transaction(kind, outcome, time.monotonic() - began)

    def _links(self, bodies: Sequence[bytes]) -> tuple[int, bytes, list[tuple[Any, ...]]]:
        sequence, tip, writer, rows = self._sequence, self._tip, self.writer, []
        for body in bodies:
            sequence += 1
            tip = link(tip, writer, sequence, body)
            rows.append((writer, sequence, tip, body))
        return sequence, tip, rows
