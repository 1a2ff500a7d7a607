"""Database work that goes on to its end, whoever is cancelled meanwhile.

A task that is cancelled while the driver carries out its BEGIN or COMMIT would leave a connection behind that holds
SQLite's write lock, and with it everybody else: a command that is ended by Ctrl-C would stop all issuance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_T = TypeVar("_T")


async def whole(work: asyncio.Task[_T] | Coroutine[Any, Any, _T]) -> _T:
    """What `work` gives. If we are cancelled, `work` is waited for all the same, and then CancelledError raised: what
    it was to do is done, or has failed. The driver's timeouts bound how long that takes.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is seen
        raise


class WholeConnection(AsyncConnection):
    """A connection whose statements are carried out whole."""

    async def execute(self, *args: Any, **named: Any) -> Any:
        return await whole(super().execute(*args, **named))

    async def exec_driver_sql(self, *args: Any, **named: Any) -> Any:
        return await whole(super().exec_driver_sql(*args, **named))


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, reads: bool) -> AsyncIterator[WholeConnection]:
    """A transaction: committed when the context is left, rolled back if by an exception, ended in every case."""
    beginning = asyncio.ensure_future(_begin(engine, reads=reads))
    try:
        connection = await whole(beginning)
    except asyncio.CancelledError:
        if not beginning.cancelled() and beginning.exception() is None:
            await whole(_end(beginning.result(), commit=False))
        raise
    try:
        yield connection
    except BaseException:
        await whole(_end(connection, commit=False))
        raise
    await whole(_end(connection, commit=True))


async def _begin(engine: AsyncEngine, *, reads: bool) -> WholeConnection:
    connection = WholeConnection(engine)
    await connection.start()
    try:
        if reads:
            await connection.execution_options(citadel_reads=True)
        await connection.begin()
    except BaseException:
        await connection.close()
        raise
    return connection


async def _end(connection: AsyncConnection, *, commit: bool) -> None:
    try:
        await (connection.commit() if commit else connection.rollback())
    except BaseException:
        # Whether the database ended the transaction is not known, and SQLAlchemy would not ask: it would give out
        # again a connection that holds SQLite's write lock.
        await connection.invalidate()
        raise
    finally:
        await connection.close()
