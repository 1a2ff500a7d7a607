"""HTTP by uvicorn inside our event loop: connections that are bounded and say who is there; signals are left to us.

Every port of ours that speaks HTTP is served by this: health and metrics, AuthZEN, ext_authz over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

TARGET = "citadel.target"
"""Where an ASGI scope has the request's target, in bytes, as it came: `/a?` is not `/a`."""
_START_SECONDS = 5.0
_quiet = logging.getLogger("citadel.http")
_quiet.setLevel(logging.ERROR)  # what anybody can send is answered; a line of log for each would be a flood

Facts = Callable[[], Mapping[str, Any]]
"""What the scope of a request says of its connection. Called at each request."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take of us. Each connection costs a descriptor, which the other sockets would lack."""

    connections: int | None
    """At once; one too many is hung up on. None: whoever is in front of us counts them."""
    requests: int
    """At once; one too many is answered 503."""
    idle_seconds: int
    """How long a connection stays open between requests."""
    head_seconds: float = 10.0
    """For the head of a request, from its first byte; of the first one, from the connection's beginning."""
    head_bytes: int = 16 * 1024
    life_seconds: float | None = None
    """How long a connection may last in all."""


def _no_facts(_: asyncio.Transport) -> Facts:
    return dict


@asynccontextmanager
async def served(
    app: ASGIApp,
    listener: socket.socket,
    bounds: Bounds,
    met: Callable[[asyncio.Transport], Facts] = _no_facts,
    *,
    tls: ssl.SSLContext | None = None,
    date: bool = True,
) -> AsyncIterator[None]:
    """Serve inside the context on `listener`, which is closed at its end. Raises OSError: nobody can listen on it.

    `met`: called when somebody connects. `date`: whether answers carry the header.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=date,
        proxy_headers=False,
        http=partial(_Connection, bounds, met),  # type: ignore[arg-type]  # uvicorn only ever calls it
        timeout_keep_alive=bounds.idle_seconds,
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="http")
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn gives no type to override
        yield


class _Remembering(h11.Connection):
    """Keeps the target of the request that came last."""

    target = b""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.target = event.target
        return event


class _Connection(H11Protocol):
    """One connection: it is counted, nobody holds it open by silence, and its requests know of it."""

    def __init__(self, bounds: Bounds, met: Callable[[asyncio.Transport], Facts], /, **given: Any) -> None:
        super().__init__(**given)
        self.logger = _quiet
        self.conn = self._heard = _Remembering(h11.SERVER, bounds.head_bytes)
        self._bounds = bounds
        self._met = met
        self._head_late: asyncio.TimerHandle | None = None
        self._life_over: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        bounds = self._bounds
        if bounds.connections is not None and len(self.connections) > bounds.connections:
            transport.abort()
            return
        inner, facts = self.app, self._met(transport)

        async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
            if len(self.tasks) > bounds.requests:
                await service_unavailable(scope, receive, send)  # type: ignore[arg-type]  # starlette's types and uvicorn's
                return
            scope[TARGET] = self._heard.target
            scope.update(facts())
            await inner(scope, receive, send)

        self.app = bounded
        self._await_head()
        if bounds.life_seconds is not None:
            self._life_over = self.loop.call_later(bounds.life_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._await_head()
        elif self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_late, self._life_over):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_late is None:
            self._head_late = self.loop.call_later(self._bounds.head_seconds, self.transport.abort)
