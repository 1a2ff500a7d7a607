"""ext_authz over HTTP: the transport of authz.doors.http_check, on a private unix socket behind a relay."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.types import Receive, Scope, Send

from citadel.api.serving import TARGET, Bounds, Facts, served
from citadel.authz.doors import Callers
from citadel.authz.doors.http_check import Asked, HttpAnswer, HttpDoor
from citadel.authz.doors.unnamed import unnamed

#: The relay before us counts connections. An Envoy's head has 60 KiB at most.
_BOUNDS = Bounds(connections=None, requests=4096, idle_seconds=300, head_bytes=64 * 1024)
_PEER = "citadel.peer"


def _peer_of(transport: asyncio.Transport) -> Facts:
    peer = transport.get_extra_info("peername")
    name = peer[1:].decode() if isinstance(peer, bytes) else ""
    return lambda: {_PEER: name}


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
        try:
            caller = await self._callers.caller(peer)
        except Exception as error:  # whatever went wrong, who cannot be named is denied
            reason, why = unnamed(error)
            return self._door.refused(peer.peer(), reason, why, began=began)
        return await self._door.check(_asked(scope), caller, began=began)


def _asked(scope: Scope) -> Asked:
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in scope["headers"]]
    return Asked(scope["method"], _text(scope[TARGET]), pairs)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@asynccontextmanager
async def serving(door: HttpDoor, callers: Callers, private: Path) -> AsyncIterator[None]:
    """Serve inside the context at the private socket. Raises OSError if that cannot be."""
    await asyncio.to_thread(private.unlink, missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(private))
        listener.listen(1024)
        app = Application(door, callers)
        async with served(app, listener, _BOUNDS, _peer_of, date=False):
            yield
