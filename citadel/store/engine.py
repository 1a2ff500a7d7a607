"""Opens a database: SQLite (one process, locked, durable) or PostgreSQL; brings its tables up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Connection, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from citadel.errors import InvalidInput
from citadel.store.faults import our_errors

_MIGRATIONS = Path(__file__).parent / "migrations"
_ASYNCPG = "postgresql+asyncpg://"  # asyncpg itself reads the rest of the URL, as libpq would
_DOWNGRADE_PATIENCE = 30.0  # seconds
_MIGRATION_LOCK = 0x0C17ADE1  # an arbitrary number that all servers share: pg_advisory_lock


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
        _ASYNCPG,
        async_creator=partial(_connect, url, timeout, timeout),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
    )
    event.listen(engine.sync_engine, "connect", _postgres_durable)
    return engine


def create_for_migrations(url: URL, *, timeout: float) -> AsyncEngine:
    """An engine for one task that may take its time over a large table."""
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, poolclass=NullPool)
        event.listen(engine.sync_engine, "connect", partial(_sqlite_durable, timeout))
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
        return engine
    return create_async_engine(_ASYNCPG, async_creator=partial(_connect, url, timeout, None), poolclass=NullPool)


def dsn(url: URL) -> str:
    """A PostgreSQL URL as libpq and asyncpg read it, password included: all of libpq's options (`sslmode`) work."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def _connect(url: URL, timeout: float, patience: float | None) -> Any:
    """`patience`: seconds for one statement."""
    try:
        return await asyncpg.connect(dsn(url), timeout=timeout, command_timeout=patience)
    except (ValueError, asyncpg.ClientConfigurationError) as error:  # what asyncpg cannot make of the URL
        raise InvalidInput(
            f"store.url cannot be used: {error}", mend="see store.url in docs/configuration.md"
        ) from error


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


async def migrate(url: URL, where: str, *, timeout: float, to: str = "head") -> None:
    """Bring the tables to revision `to`. Raises NewerDatabase if a newer program has been here.

    Alembic is not even imported where there is nothing to do, which is nearly always: it takes a quarter of a second.
    """
    engine = create_for_migrations(url, timeout=timeout)
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
    yield  # if it fails, the connection is closed, and the lock goes with it
    await connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": _MIGRATION_LOCK})
    await connection.commit()


async def _run(connection: AsyncConnection, work: Callable[[Connection], None]) -> None:
    await connection.run_sync(work)
    await connection.commit()


async def downgrade(url: URL, to: str) -> None:
    """Take the tables back to revision `to` (tests, and operators who go back a version)."""

    from citadel.store.upgrade import downgrade as work

    engine = create_for_migrations(url, timeout=_DOWNGRADE_PATIENCE)
    try:
        async with engine.connect() as connection:
            await asyncio.shield(_run(connection, lambda c: work(c, to)))
    finally:
        await engine.dispose()
