"""Opens a database: SQLite (one process, locked, durable) or PostgreSQL; brings its tables up to date."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from citadel.errors import FailedPrecondition, InvalidInput, PermissionDenied
from citadel.store.faults import our_errors

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_PATIENCE = 30.0  # seconds, for a lock
_MIGRATION_LOCK = 0x0C17ADE1  # an arbitrary number that all servers share: pg_advisory_lock


class DirectoryLock:
    """Holds a SQLite directory for this process. Raises FailedPrecondition, naming the holder, if it is taken."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PermissionDenied(
                f"{path} cannot be opened: {error.strerror}", mend="run as the user who owns the data directory"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise FailedPrecondition(
                f"another Citadel (pid {holder}) uses {path.parent} already",
                mend="stop that one first; several servers share a PostgreSQL, not a SQLite",
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._handle)


def parse_url(text_url: str) -> URL:
    """`sqlite:////absolute/path` or `postgresql://…`, with the async driver filled in. Raises InvalidInput."""
    try:
        url = make_url(text_url)
    except Exception as error:  # SQLAlchemy raises several kinds, some of which would quote a password
        raise InvalidInput("the database URL cannot be read", mend="see store.url in docs/configuration.md") from error
    match url.get_backend_name():
        case "sqlite" if url.database and url.database.startswith("/"):
            return url.set(drivername="sqlite+aiosqlite")
        case "postgresql":
            return url.set(drivername="postgresql+asyncpg")
        case _:
            raise InvalidInput(
                f"{url.render_as_string(hide_password=True)} is no database that Citadel can use",
                mend="use sqlite:////absolute/path or postgresql://user@host/name",
            )


def create(url: URL, *, pool_size: int, timeout: float) -> AsyncEngine:
    """An engine whose every transaction is durable once committed, and that waits for nothing longer than `timeout`
    seconds: a free connection, a connection to be made, a lock, the answer to one statement."""
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=timeout)
        event.listen(engine.sync_engine, "connect", partial(_sqlite_durable, timeout))
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
        return engine
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args={"timeout": timeout, "command_timeout": timeout},
    )
    event.listen(engine.sync_engine, "connect", _postgres_durable)
    return engine


def create_for_migrations(url: URL) -> AsyncEngine:
    """An engine for one task that may take its time over a large table."""
    engine = create_async_engine(url, poolclass=NullPool)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", partial(_sqlite_durable, _MIGRATION_PATIENCE))
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def prepare_file(path: Path) -> None:
    """Make the SQLite file with mode 0600 whatever the umask is; its -wal and -shm inherit that."""
    with our_errors(str(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        probe = sqlite3.connect(path)
        try:
            verdict = probe.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise FailedPrecondition(f"the database {path} is corrupt ({error})", mend="restore a backup") from error
        finally:
            probe.close()
        if verdict != "ok":
            raise FailedPrecondition(f"the database {path} is corrupt ({verdict})", mend="restore it from a backup")


def _sqlite_durable(timeout: float, connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(timeout * 1000)}",
        "cache_size=-32768",  # KiB. Serials are random, so each insert may need another page of their index.
        "wal_autocheckpoint=4000",  # pages: those that change often are copied into the file less often
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.isolation_level = None  # we begin transactions ourselves: pysqlite would begin them too late


def _sqlite_begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("citadel_reads", False)
    # A writer takes its lock at once: a reader that turns into one may be refused when it is too late to retry.
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _postgres_durable(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    cursor.close()


async def migrate(url: URL, where: str, *, to: str = "head") -> None:
    """Bring the tables to revision `to`. Raises NewerDatabase if a newer program has been here.

    Alembic is not even imported where there is nothing to do, which is nearly always: it takes a quarter of a second.
    """
    engine = create_for_migrations(url)
    try:
        with our_errors(where):
            async with engine.connect() as connection:
                if to == "head" and await connection.run_sync(_is_current):
                    return
                from citadel.store.upgrade import upgrade

                async with _alone(connection):
                    await _run(connection, lambda c: upgrade(c, where, to))
    finally:
        await engine.dispose()


def newest_revision() -> str:
    """The revision that this program's tables have: migrations are files that begin with theirs."""
    return max(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _is_current(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    present = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return present == [newest_revision()]


@asynccontextmanager
async def _alone(connection: AsyncConnection) -> AsyncIterator[None]:
    """Several servers may start at once on one PostgreSQL: they migrate it one after the other."""
    if connection.dialect.name != "postgresql":
        yield
        return
    await connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": _MIGRATION_LOCK})
    await connection.commit()
    try:
        yield
    finally:
        await connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": _MIGRATION_LOCK})
        await connection.commit()


async def _run(connection: AsyncConnection, work: Callable[[Connection], None]) -> None:
    await connection.run_sync(work)
    await connection.commit()


async def downgrade(url: URL, to: str) -> None:
    """Take the tables back to revision `to` (tests, and operators who go back a version)."""

    from citadel.store.upgrade import downgrade as work

    engine = create_for_migrations(url)
    try:
        async with engine.connect() as connection:
            await asyncio.shield(_run(connection, lambda c: work(c, to)))
    finally:
        await engine.dispose()
