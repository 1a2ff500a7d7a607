"""A server alone by its name: no second one writes to the same audit chain of a PostgreSQL database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import structlog

from citadel.errors import FailedPrecondition, Unavailable

_ATTEMPTS, _PAUSE_SECONDS = 10, 0.5  # a server that was killed a moment ago may not be gone for the database yet
_RECONNECT_SECONDS = 1.0
_CLASS = 0x0C17  # of our advisory locks; see engine for the other one
#: A machine that vanished is noticed by the database within half a minute, and its name is free again.
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
log = structlog.get_logger("citadel.store")


@asynccontextmanager
async def alone(dsn: str, writer: str, where: str) -> AsyncIterator[None]:
    """Inside, no other server has the name `writer`: an advisory lock that is held as long as its connection is.

    When that is lost, it is taken again as soon as the database is back. Raises FailedPrecondition if another server
    has the name, Unavailable.
    """
    try:
        connection = await _take(dsn, writer)
    except _LOST as error:
        raise Unavailable(f"the database {where} cannot be reached: {error or type(error).__name__}") from error
    if connection is None:
        raise FailedPrecondition(
            f"another server runs as audit.writer = {writer!r} on the database {where}",
            mend="give each server that shares a database its own audit.writer (and node_name)",
        )
    keeper = asyncio.create_task(_keep(dsn, writer, connection), name="the server's name")
    try:
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        connection.terminate()  # the keeper may not even have begun
        await asyncio.sleep(0)  # the transport closes in the loop's next turn


async def count_servers(dsn: str, where: str) -> int:
    """How many have a name on this database. Raises Unavailable."""
    held = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1 AND objsubid = 2 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    try:
        connection: Any = await asyncpg.connect(dsn, timeout=10)
        try:
            return int(await connection.fetchval(held, _CLASS))
        finally:
            await connection.close()
    except _LOST as error:
        raise Unavailable(f"the database {where} cannot be reached: {error or type(error).__name__}") from error


async def _keep(dsn: str, writer: str, connection: Any) -> None:
    held: Any = connection
    while True:
        if held is not None:
            await _until_lost(held)
            log.warning("lost the lock on the name of this server, taking it again", writer=writer)
        held = None
        with suppress(*_LOST):
            held = await _take(dsn, writer)
            if held is None:
                log.error("another server took the name of this one: stop one of the two", writer=writer)
        if held is None:
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _until_lost(connection: Any) -> None:
    lost = asyncio.Event()
    connection.add_termination_listener(lambda *_: lost.set())
    try:
        if not connection.is_closed():
            await lost.wait()
    finally:
        connection.terminate()
        await asyncio.sleep(0)  # the transport closes in the loop's next turn


async def _take(dsn: str, writer: str) -> Any:
    """A connection that holds the lock; None if another one does."""
    connection: Any = await asyncpg.connect(dsn, timeout=10, server_settings=_KEEPALIVE)
    number = int.from_bytes(hashlib.sha256(writer.encode()).digest()[:4], signed=True)
    try:
        for attempt in range(_ATTEMPTS):
            if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _CLASS, number):
                return connection
            if attempt + 1 < _ATTEMPTS:
                await asyncio.sleep(_PAUSE_SECONDS)
    except BaseException:
        connection.terminate()
        raise
    await connection.close()
    return None
