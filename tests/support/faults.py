"""A database that fails: at each statement of each transaction once, as a full disk or a server that goes away does."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from citadel.audit import AuditEvent
from citadel.store import Store
from citadel.store.ledger import Transaction

UNAUDITED = "what clients hold, and issuance"
READING = "what is read"
_COMMIT, _ANSWER = "COMMIT", "COMMIT, of which the answer is lost"


class Faults:
    """Each statement of each transaction that writes fails when it is first reached, then its COMMIT does, then only
    the answer to it is lost; reads fail at each statement once, whatever they are for.

    A disk is full (SQLite), or our session is terminated by PostgreSQL itself. `met` counts them by transaction;
    `where` and `before` are of the newest: the transaction, and what `look` saw ahead of it. `only`: the transactions
    that fail, by the action in their audit record; READING stands for what only reads.
    """

    def __init__(
        self, store: Store, patch: pytest.MonkeyPatch, look: Callable[[], Awaitable[object]], only: Collection[str]
    ) -> None:
        self.met: Counter[str] = Counter()
        self.where = ""
        self.answer_lost = False
        self.before: object = None
        self._look = look
        self._only = frozenset(only)
        self._seen: set[tuple[str, str]] = set()
        self._inside = ""
        self._off = 0
        ledger = store._ledger
        self._engine = ledger.engine.sync_engine
        self._postgres = self._engine.dialect.name == "postgresql"
        self._writing = ledger.writing
        patch.setattr(ledger, "writing", self._named)
        self._committing = self._engine.dialect.do_commit
        patch.setattr(self._engine.dialect, "do_commit", self._commit)
        event.listen(self._engine, "do_execute", self._execute)
        event.listen(self._engine, "do_executemany", self._execute)
        event.listen(self._engine, "do_execute_no_params", self._execute_bare)

    @contextmanager
    def none(self) -> Iterator[None]:
        """Inside, nothing fails."""
        self._off += 1
        try:
            yield
        finally:
            self._off -= 1

    @asynccontextmanager
    async def _named(self, *events: AuditEvent, **more: Any) -> AsyncIterator[Transaction]:
        """As Ledger.writing, which lets one in at a time."""
        if events and events[0].action in self._only:
            with self.none():
                self.before = await self._look()
        async with self._writing(*events, **more) as transaction:
            self._inside = events[0].action if events else UNAUDITED
            yield transaction
        self._inside = ""

    def _is_first(self, what: str) -> bool:
        key = (self._inside, what)
        inside = self._inside or (READING if what.startswith("SELECT") else "")
        if self._off or key in self._seen or inside not in self._only:
            return False
        self._seen.add(key)
        self.met[inside] += 1
        self.where = inside
        self.answer_lost = what == _ANSWER
        return True

    def _execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if self._is_first(statement):
            self._fail(cursor)

    def _execute_bare(self, cursor: Any, statement: str, context: Any) -> None:
        if self._is_first(statement):
            self._fail(cursor)

    def _fail(self, cursor: Any) -> None:
        self._inside = ""
        if self._postgres:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise sqlite3.OperationalError("database or disk is full")

    def _commit(self, connection: Any) -> None:
        if self._inside and self._is_first(_COMMIT):
            self._fail(connection.cursor())
        answer = self._inside and self._is_first(_ANSWER)
        self._committing(connection)
        if answer:
            self._fail(connection.cursor())
