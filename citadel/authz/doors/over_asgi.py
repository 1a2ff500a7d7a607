"""ext_authz over ASGI with trailers: the same service behind another transport, for servers such as pyvoy.

A unary gRPC call (grpc.io, "gRPC over HTTP2"): one message behind five bytes, and the status in the trailers. Whatever
is no such call ends with a status, which an Envoy takes for a failure, never for leave to go on.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from citadel.authz.doors.ports import Connection
from citadel.authz.doors.service import SERVICE, AuthorizationService
from citadel.errors import Code

Scope = MutableMapping[str, Any]
_PATH = f"/{SERVICE}/Check"
MOST_BYTES = 256 << 10  # as on grpc.aio (sds.service.SERVER_OPTIONS)
_SECONDS = 10.0  # for a message to come in
CALLS_AT_ONCE = 4096  # as on grpc.aio, of all connections together
_PREFIX = struct.Struct(">BI")
_XFCC = b"x-forwarded-client-cert"
_UNIMPLEMENTED = 12
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}


class ForwardedCertificate:
    """doors.ports.Connection: the certificate that the Envoy has verified which the application runs in.

    Only for one that is configured with `forward_client_cert_details: SANITIZE_SET` and `cert: true`: then the header
    is its own, and nobody else can send it.
    """

    __slots__ = ("_client", "_headers")

    def __init__(self, scope: Scope) -> None:
        self._client = scope.get("client")
        self._headers: Iterable[tuple[bytes, bytes]] = scope["headers"]

    def peer(self) -> str:
        return f"{self._client[0]}:{self._client[1]}" if self._client else "nowhere"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        given = [value for name, value in self._headers if name == _XFCC]
        return _proven(given[0]) if len(given) == 1 else {}


@lru_cache(maxsize=4096)  # the same comes with every check of a connection, and has a thousand escaped bytes
def _proven(xfcc: bytes) -> Mapping[str, Iterable[bytes]]:
    for field in xfcc.split(b";"):
        name, _, value = field.partition(b"=")
        if name == b"Cert":
            return {"x509_pem_cert": [unquote_to_bytes(value.strip(b'"'))]}
    return {}


class CheckOverAsgi:
    """The application. `connection` names who is at the other end, by the scope."""

    def __init__(
        self,
        service: AuthorizationService,
        connection: Callable[[Scope], Connection],
        *,
        calls_at_once: int = CALLS_AT_ONCE,
    ) -> None:
        self._service = service
        self._connection = connection
        self._most_calls = calls_at_once
        self._calls = 0
        self._arrivals = _Arrivals()

    async def __call__(self, scope: Scope, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        try:
            if self._calls >= self._most_calls:
                raise _NoCall(Code.RESOURCE_EXHAUSTED, f"more than {self._most_calls} calls are under way")
            self._calls += 1
            try:
                message = await self._message(scope, receive)
                answer = await self._service.answer(message, self._connection(scope))
            finally:
                self._calls -= 1
        except _NoCall as error:
            await _refuse(send, error)
            return
        await send(_START)
        body = _PREFIX.pack(0, len(answer)) + answer
        await send({"type": "http.response.body", "body": body, "more_body": False})
        await send(_OK)

    async def _message(self, scope: Scope, receive: Callable[[], Any]) -> bytes:
        """Raises _NoCall."""
        if scope["method"] != "POST" or scope["path"] != _PATH or not _is_grpc(scope["headers"]):
            raise _NoCall(_UNIMPLEMENTED, "there is no such call")
        task = self._arrivals.begin()
        try:
            body = await _body(receive)
        except asyncio.CancelledError:
            if not self._arrivals.is_late(task):
                raise
            raise _NoCall(Code.DEADLINE_EXCEEDED, "the message did not come in time") from None
        finally:
            self._arrivals.end(task)
        if len(body) < _PREFIX.size:
            raise _NoCall(Code.INVALID_ARGUMENT, "there is no message")
        compressed, length = _PREFIX.unpack_from(body)
        if compressed:
            raise _NoCall(_UNIMPLEMENTED, "messages are not taken compressed")
        if length != len(body) - _PREFIX.size:
            raise _NoCall(Code.INVALID_ARGUMENT, "the message has another length than it says")
        return body[_PREFIX.size :]


class _Arrivals:
    """Messages that are coming in. One timer looks at all of them: one for each would cost more than its message."""

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], float] = {}  # all wait equally long, so the first is due first
        self._late: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        """On which a look is due."""

    def begin(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._ends[task] = loop.time() + _SECONDS
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(_SECONDS / 10, self._look, loop)
        return task

    def is_late(self, task: asyncio.Task[Any]) -> bool:
        """It was cancelled for that, and for nothing else."""
        return task in self._late and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        self._ends.pop(task, None)
        self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._ends:
            task, end = next(iter(self._ends.items()))
            if end > now:
                break
            del self._ends[task]
            self._late.add(task)
            task.cancel()
        self._loop = loop if self._ends else None
        if self._ends:
            loop.call_later(_SECONDS / 10, self._look, loop)


class _NoCall(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _is_grpc(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """By the first content-type."""
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(b"application/grpc")
    return False


async def _body(receive: Callable[[], Any]) -> bytes:
    """Raises _NoCall."""
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _NoCall(Code.INVALID_ARGUMENT, "the message ended too early")
        piece = event.get("body", b"")
        size += len(piece)
        if size > MOST_BYTES + _PREFIX.size:
            raise _NoCall(Code.RESOURCE_EXHAUSTED, f"the message has more than {MOST_BYTES} bytes")
        pieces.append(piece)
        if not event.get("more_body", False):
            return piece if len(pieces) == 1 else b"".join(pieces)


async def _refuse(send: Callable[[Any], Any], error: _NoCall) -> None:
    headers = [(b"grpc-status", str(int(error.status)).encode()), (b"grpc-message", str(error).encode())]
    await send(_START)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    await send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})
