"""ext_authz over HTTP: the transport of authz.doors.http_check, on a private unix socket behind a relay."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from citadel.api.serving import served
from citadel.authz.decision import Reason
from citadel.authz.doors import Callers
from citadel.authz.doors.http_check import Asked, HttpAnswer, HttpDoor
from citadel.errors import CitadelError, FailedPrecondition, PermissionDenied, Unavailable

_AT_ONCE = 4096  # requests
_IDLE_SECONDS = 300
_MOST_HEAD = 64 * 1024  # bytes; an Envoy's has 60 KiB at most
_HEAD_SECONDS = 10.0  # for the head of a request, from its first byte
_PEER, _TARGET = "citadel.peer", "citadel.target"
log = structlog.get_logger("citadel.authz")
_quiet = logging.getLogger("citadel.authz.http")
_quiet.setLevel(logging.ERROR)  # what anybody can send is answered; a line of log for each would be a flood


class _Remembering(h11.Connection):
    """Keeps the target of a request as it came: `/a?` is not `/a`."""

    target = b""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.target = event.target
        return event


class _Connection(H11Protocol):
    """A connection that tells its request what it needs to know of it."""

    _hang_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.logger = _quiet
        self.conn = remembering = _Remembering(h11.SERVER, _MOST_HEAD)
        peer = transport.get_extra_info("peername")
        name = peer[1:].decode() if isinstance(peer, bytes) else ""
        inner = self.app

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_PEER], scope[_TARGET] = name, remembering.target
            await inner(scope, receive, send)

        self.app = told
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


class _Peer:
    """Contract: doors.Connection."""

    def __init__(self, name: str) -> None:
        self._name = f"unix-abstract:{name}"

    def peer(self) -> str:
        return self._name

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {}


class Application:
    """ASGI: every request is a check."""

    def __init__(self, door: HttpDoor, callers: Callers) -> None:
        self._door = door
        self._callers = callers

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await self._answer(scope, time.perf_counter())
        headers = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in answer.headers]
        headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, began: float) -> HttpAnswer:
        peer = _Peer(scope[_PEER])
        reason, why = Reason.INTERNAL_ERROR, ""
        try:
            caller = await self._callers.caller(peer)
        except PermissionDenied as error:
            reason, why = Reason.UNKNOWN_WORKLOAD, error.message
        except Unavailable as error:
            reason, why = Reason.NOT_LOADED, error.message
        except CitadelError as error:  # it may be over in a moment
            why = error.message
        except Exception as defect:
            log.error("a caller could not be looked up", exc_info=defect)
            why = type(defect).__name__
        else:
            return await self._door.check(_asked(scope), caller, began=began)
        return self._door.refused(peer.peer(), reason, why, began=began)


def _asked(scope: Scope) -> Asked:
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in scope["headers"]]
    return Asked(scope["method"], _text(scope[_TARGET]), pairs)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@asynccontextmanager
async def serving(door: HttpDoor, callers: Callers, private: Path) -> AsyncIterator[None]:
    """Serve inside the context at the private socket. Raises FailedPrecondition if that cannot be."""
    await asyncio.to_thread(private.unlink, missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(private))
    listener.listen(1024)
    config = uvicorn.Config(
        Application(door, callers),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        http=_Connection,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    async with served(config, FailedPrecondition("ext_authz over HTTP cannot be served"), [listener]):
        yield
