"""What is sent to us: bounded, in time too, and JSON without ambiguities (I-JSON, RFC 7493)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from citadel.authz.tokens.strict_json import parse_object

_SECONDS = 10.0


def route_reading(most_bytes: int) -> type[APIRoute]:
    """A kind of route whose bodies have so many bytes at the most."""

    class _Bounded(Request):
        async def body(self) -> bytes:
            if not hasattr(self, "_body"):
                self._body = await _read(self, most_bytes)
            return self._body

        async def json(self) -> Any:
            try:
                return parse_object(await self.body())
            except ValueError as error:
                raise HTTPException(400, f"the body: {error}") from None

    class _Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await inner(_Bounded(request.scope, request.receive))

            return handle

    return _Route


async def _read(request: Request, most_bytes: int) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(400, "Content-Type: expected application/json")
    too_large = HTTPException(413, f"the body: it has more than {most_bytes} bytes", {"connection": "close"})
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most_bytes:
        raise too_large
    read = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.stream():
                read += piece
                if len(read) > most_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(
            400, f"the body: it was not here within {_SECONDS:.0f} s", {"connection": "close"}
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body: it ended too early") from None
    if not read:
        raise HTTPException(400, "the body: it is empty; expected a JSON object")
    return bytes(read)
