"""Connections of the AuthZEN port: each names its caller, none is held open by silence, and there are only so many."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
import uvicorn
from cryptography import x509
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from citadel.api.authzen.callers import NOBODY, SCOPE, Caller, holder_of, process_at
from citadel.api.authzen.tls import Anchors, Contexts
from citadel.api.serving import served
from citadel.errors import FailedPrecondition

_AT_ONCE = 256  # requests
_CONNECTIONS = 512
_HEAD_SECONDS = 10.0  # for the head of a request
_IDLE_SECONDS = 300
log = structlog.get_logger("citadel.authzen")


class _Connection(H11Protocol):
    """One connection. `contexts`: for TLS."""

    contexts: Contexts | None = None
    _hang_up: asyncio.TimerHandle | None = None
    _caller: Caller = NOBODY
    _leaf: x509.Certificate | None = None
    _verified_by: Anchors | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
            return
        try:
            self._caller = self._named(transport)
        except Exception as error:  # whoever cannot be named is nobody
            log.warning("a caller could not be named", exc_info=error)
        inner = self.app

        async def with_caller(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SCOPE], scope["citadel.hang_up"] = self._caller_now()
            await inner(scope, receive, send)

        self.app = with_caller
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._await_head()
        elif self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._hang_up is None:
            self._hang_up = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _named(self, transport: asyncio.Transport) -> Caller:
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            assert self.contexts is not None
            self._verified_by = self.contexts.anchors()
            der = tls.getpeercert(binary_form=True)
            if der is None:
                return NOBODY
            self._leaf = x509.load_der_x509_certificate(der)
            return holder_of(self._leaf)
        with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as connection:
            return process_at(connection) if connection.family == socket.AF_UNIX else NOBODY

    def _caller_now(self) -> tuple[Caller, bool]:
        """Who asks, and whether to hang up: a certificate counts until it ends or is revoked, and if what it was
        verified by has changed, the next request is to come by another handshake."""
        caller = self._caller
        if self.contexts is None or self._leaf is None:
            return caller, False
        anchors = self.contexts.anchors()
        stale = anchors != self._verified_by
        if caller.not_after is not None and caller.not_after <= datetime.now(UTC):
            return Caller(frozenset(), f"a certificate of {caller.label} that has ended"), True
        if anchors.crls and anchors.revoked(self._leaf):
            return Caller(frozenset(), f"a revoked certificate of {caller.label}"), stale
        return caller, stale


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, contexts: Contexts | None = None) -> AsyncIterator[None]:
    """Serve on `listener` inside the context: a unix socket; or, with `contexts`, TCP by TLS.

    Raises FailedPrecondition if that cannot be."""
    kind = type("_Connection", (_Connection,), {"contexts": contexts})
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=kind,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    config.load()
    if contexts is not None:
        config.ssl = contexts.public
    async with served(config, FailedPrecondition("the AuthZEN socket cannot be served"), [listener]):
        yield
