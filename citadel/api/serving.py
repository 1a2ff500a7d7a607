"""uvicorn inside our event loop: started, waited for, and ended, with the signals left to us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn

from citadel.errors import FailedPrecondition

_START_SECONDS = 5.0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn gives no type to override
        yield


@asynccontextmanager
async def served(
    config: uvicorn.Config, taken: FailedPrecondition, sockets: Sequence[socket.socket] | None = None
) -> AsyncIterator[None]:
    """Serve inside the context: on `sockets`, or else where `config` says. Raises `taken` if that cannot be had."""
    server = _Server(config)
    task = asyncio.create_task(_run(server, sockets), name="http")
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started:
                if task.done():
                    raise taken
                await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


async def _run(server: uvicorn.Server, sockets: Sequence[socket.socket] | None) -> None:
    with suppress(SystemExit):  # uvicorn's way of saying that the address is taken
        await server.serve(None if sockets is None else list(sockets))
