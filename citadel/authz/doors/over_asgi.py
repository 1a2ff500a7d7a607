"""ext_authz over ASGI with trailers: the same service behind another transport, for servers such as pyvoy.

A unary gRPC call (grpc.io, "gRPC over HTTP2"): one message behind five bytes, and the status in the trailers. Whatever
is no such call ends with a status, which an Envoy takes for a failure, never for leave to go on.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from citadel.authz.doors.ports import Connection
from citadel.authz.doors.service import SERVICE, AuthorizationService
from citadel.errors import Code

Scope = MutableMapping[str, Any]
_PATH = f"/{SERVICE}/Check"
_MOST_BYTES = 256 << 10  # as on grpc.aio (sds.service.SERVER_OPTIONS)
_SECONDS = 10.0  # for a message to come in
_PREFIX = struct.Struct(">BI")
_XFCC = b"x-forwarded-client-cert"
_UNIMPLEMENTED = 12
_HEADERS = [(b"content-type", b"application/grpc")]


class ForwardedCertificate:
    """doors.ports.Connection: the certificate that the Envoy has verified which the application runs in.

    Only for one that is configured with `forward_client_cert_details: SANITIZE_SET` and `cert: true`: then the header
    is its own, and nobody else can send it.
    """

    def __init__(self, scope: Scope) -> None:
        client = scope.get("client")
        self._peer = f"{client[0]}:{client[1]}" if client else "nowhere"
        self._headers: Iterable[tuple[bytes, bytes]] = scope["headers"]

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        given = [value for name, value in self._headers if name == _XFCC]
        if len(given) != 1:
            return {}
        for field in given[0].split(b";"):
            name, _, value = field.partition(b"=")
            if name == b"Cert":
                return {"x509_pem_cert": [unquote_to_bytes(value.strip(b'"'))]}
        return {}


class CheckOverAsgi:
    """The application. `connection` names who is at the other end, by the scope."""

    def __init__(self, service: AuthorizationService, connection: Callable[[Scope], Connection]) -> None:
        self._service = service
        self._connection = connection

    async def __call__(self, scope: Scope, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        try:
            message = await _message(scope, receive)
        except _NoCall as error:
            await _end(send, None, error.status, str(error))
            return
        await _end(send, await self._service.answer(message, self._connection(scope)), 0, "")


class _NoCall(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def _message(scope: Scope, receive: Callable[[], Any]) -> bytes:
    """Raises _NoCall."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    if scope["method"] != "POST" or scope["path"] != _PATH or not kinds or not kinds[0].startswith(b"application/grpc"):
        raise _NoCall(_UNIMPLEMENTED, "there is no such call")
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise _NoCall(Code.INVALID_ARGUMENT, "the message ended too early")
                body += event.get("body", b"")
                if len(body) > _MOST_BYTES + _PREFIX.size:
                    raise _NoCall(Code.RESOURCE_EXHAUSTED, f"the message has more than {_MOST_BYTES} bytes")
                if not event.get("more_body", False):
                    break
    except TimeoutError:
        raise _NoCall(Code.DEADLINE_EXCEEDED, "the message did not come in time") from None
    if len(body) < _PREFIX.size:
        raise _NoCall(Code.INVALID_ARGUMENT, "there is no message")
    compressed, length = _PREFIX.unpack_from(body)
    if compressed:
        raise _NoCall(_UNIMPLEMENTED, "messages are not taken compressed")
    if length != len(body) - _PREFIX.size:
        raise _NoCall(Code.INVALID_ARGUMENT, "the message has another length than it says")
    return bytes(memoryview(body)[_PREFIX.size :])


async def _end(send: Callable[[Any], Any], answer: bytes | None, status: int, message: str) -> None:
    body = b"" if answer is None else _PREFIX.pack(0, len(answer)) + answer
    trailers = [(b"grpc-status", str(int(status)).encode())]
    if message:
        trailers.append((b"grpc-message", message.encode()))
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    await send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
