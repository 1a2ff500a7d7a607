"""Store: opens a database and hands out what is kept in it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from citadel.errors import FailedPrecondition
from citadel.spiffe import TrustDomain
from citadel.store import engine as engines
from citadel.store import sqlite_file
from citadel.store.audit import SqlAuditLog
from citadel.store.authorities import SqlAuthorityStore
from citadel.store.changes import LocalChanges, listen
from citadel.store.entities import SqlEntityStore
from citadel.store.entries import SqlEntryStore
from citadel.store.federation import SqlFederationStore
from citadel.store.issuance import SqlIssuanceLog
from citadel.store.leases import SqlLeases
from citadel.store.ledger import Ledger, Transaction
from citadel.store.policies import SqlPolicyStore
from citadel.store.ports import StoreMeter
from citadel.store.recognised import remember, remembered
from citadel.store.records import SqlClientStore, SqlJobStore
from citadel.store.rotation import SqlRotationStore
from citadel.store.sole import alone, count_servers
from citadel.store.sqlite_file import DirectoryLock
from citadel.store.tables import MetaRow


class Store:
    """An open database. Made by `open`."""

    def __init__(
        self, engine: AsyncEngine, ledger: Ledger, changes: LocalChanges, *, kind: str, where: str, dsn: str
    ) -> None:
        self.kind = kind
        self.where = where
        self.changes = changes
        self.authorities = SqlAuthorityStore(ledger)
        self.rotation = SqlRotationStore(ledger, self.authorities)
        self.issuance = SqlIssuanceLog(ledger)
        self.entries = SqlEntryStore(ledger)
        self.federation = SqlFederationStore(ledger)
        self.clients = SqlClientStore(ledger)
        self.jobs = SqlJobStore(ledger)
        self.leases = SqlLeases(ledger)
        self.audit = SqlAuditLog(ledger)
        self.policies = SqlPolicyStore(ledger)
        self.entities = SqlEntityStore(ledger)
        self._engine = engine
        self._dsn = dsn
        self._ledger = ledger

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        writer: str,
        pool_size: int = 10,
        timeout: timedelta = timedelta(seconds=10),
        meter: StoreMeter | None = None,
    ) -> AsyncIterator[Store]:
        """Open the database at `url` (`sqlite:////abs/path`, `postgresql://…`), its tables brought up to date.

        `writer` names this server's audit chain; servers that share a database differ in it. Nothing waits for the
        database longer than `timeout`: see engine.create. Raises InvalidInput (URL), FailedPrecondition (another server
        holds the SQLite directory; corrupt), NewerDatabase, Unavailable.
        """
        parsed = engines.parse_url(url)
        where = parsed.render_as_string(hide_password=True).replace("+aiosqlite", "").replace("+asyncpg", "")
        kind = parsed.get_backend_name()
        lock: DirectoryLock | None = None
        seconds = timeout.total_seconds()
        if kind == "sqlite":
            path = Path(parsed.database or "")
            sqlite_file.prepare_folder(path)
            lock = DirectoryLock(path.parent / "lock")
            try:
                sqlite_file.prepare(path, timeout=seconds)
            except BaseException:
                lock.release()
                raise
        engine = engines.create(parsed, pool_size=pool_size, timeout=seconds)
        listener: asyncio.Task[None] | None = None
        try:
            await engines.migrate(parsed, where, timeout=seconds)
            changes = LocalChanges()
            guard = sqlite_file.SameFile(Path(parsed.database or "")).check if kind == "sqlite" else _unguarded
            ledger = Ledger(engine, changes, writer=writer, where=where, timeout=seconds, meter=meter, guard=guard)
            await ledger.open()
            store = cls(engine, ledger, changes, kind=kind, where=where, dsn=engines.dsn(parsed))
            if kind == "postgresql":
                listener = asyncio.create_task(listen(engines.dsn(parsed), changes), name="database announcements")
            store.issuance.start()
            try:
                yield store
            finally:
                await store.issuance.stop()
        finally:
            if listener is not None:
                listener.cancel()
                with suppress(asyncio.CancelledError):
                    await listener
            await engine.dispose()
            if lock is not None:
                lock.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, no other server has this one's `writer`. Raises FailedPrecondition if one has it, Unavailable."""
        if self.kind != "postgresql":  # one process holds the directory
            yield
            return
        async with alone(self._dsn, self._ledger.writer, self.where):
            yield

    @asynccontextmanager
    async def unserved(self) -> AsyncIterator[None]:
        """As `alone`, and no other server runs on this database when the context is entered."""
        async with self.alone():
            others = await count_servers(self._dsn, self.where) - 1 if self.kind == "postgresql" else 0
            if others > 0:
                raise FailedPrecondition(
                    f"{others} other {'server runs' if others == 1 else 'servers run'} on the database {self.where}",
                    mend="stop all of them first",
                )
            yield

    async def pin_trust_domain(self, trust_domain: TrustDomain) -> None:
        """Write down whose database this is. Raises FailedPrecondition if it is another trust domain's."""
        async with self._ledger.writing() as transaction:
            row = await transaction.first(select(MetaRow.value).where(MetaRow.key == "trust_domain"))  # type: ignore[call-overload]  # SQLModel types columns as values
            if row is None:
                await transaction.connection.execute(
                    insert(MetaRow).values(key="trust_domain", value=trust_domain.name)
                )
            elif row[0] != trust_domain.name:
                raise FailedPrecondition(
                    f"the database {self.where} belongs to the trust domain {row[0]}, not {trust_domain}",
                    mend="set trust_domain back, or begin with another data directory",
                )

    async def recognise(self, path: Path) -> str:
        """Make sure that this is the database of before: its id, which is in the file at `path`, made at first.

        Raises FailedPrecondition if it is another one, or an empty one; PermissionDenied.
        """
        known = remembered(path)
        async with self._ledger.writing() as transaction:
            row = await transaction.first(select(MetaRow.value).where(MetaRow.key == "database_id"))  # type: ignore[call-overload]  # SQLModel types columns as values
            if row is None and known is None:
                row = (secrets.token_hex(16),)
                await transaction.connection.execute(insert(MetaRow).values(key="database_id", value=row[0]))
        if known is None and row is not None:
            remember(path, row[0])
        if row is None or row[0] != (known or row[0]):
            what = "is empty" if row is None else "is another one than before"
            raise FailedPrecondition(
                f"the database {self.where} {what}: {path} remembers the one that this Citadel used",
                mend="mount or restore that one; to begin anew, with a root that nobody trusts yet, remove the file",
            )
        return str(row[0])

    async def health(self) -> None:
        """Returns if the database answers; and, if it refused to write the last time, can be written to again.

        Raises Unavailable.
        """
        self._ledger.guard()
        if self._ledger.refused:
            async with self._ledger.writing() as transaction:
                await _rewrite(transaction, "probe")
            return
        async with self._ledger.reading() as transaction:
            await transaction.first(text("SELECT 1"))


def _unguarded() -> None: ...


async def _rewrite(transaction: Transaction, key: str) -> None:
    """Write a row, so that it shows whether that is possible."""
    await transaction.connection.execute(delete(MetaRow).where(MetaRow.key == key))  # type: ignore[arg-type]  # SQLModel types columns as values
    await transaction.connection.execute(insert(MetaRow).values(key=key, value=""))
