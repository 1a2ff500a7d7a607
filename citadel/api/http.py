"""/livez, /readyz and /metrics: what probes and Prometheus ask, without secrets and without authentication."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from citadel.api.serving import Bounds, served
from citadel.errors import FailedPrecondition

#: Probes are done well before the end of a connection's life, and who says nothing makes room.
_BOUNDS = Bounds(connections=256, requests=100, idle_seconds=5, life_seconds=30.0)


class Report(Protocol):
    """How we are."""

    @property
    def live(self) -> bool: ...
    @property
    def ready(self) -> bool: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class HttpParts:
    """`metrics` is Prometheus's text format."""

    look: Callable[[], Awaitable[Report]]
    metrics: Callable[[], bytes]


def application(parts: HttpParts) -> Starlette:
    async def livez(_: Request) -> Response:
        report = await parts.look()
        return JSONResponse({"live": report.live, "reasons": report.reasons}, 200 if report.live else 503)

    async def readyz(_: Request) -> Response:
        report = await parts.look()
        return JSONResponse({"ready": report.ready, "reasons": report.reasons}, 200 if report.ready else 503)

    async def metrics(_: Request) -> Response:
        await parts.look()  # a monitor that asks only here must see the checks too
        return Response(parts.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])


@asynccontextmanager
async def serving(parts: HttpParts, host: str, port: int) -> AsyncIterator[None]:
    """Serve inside the context. Raises FailedPrecondition if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise FailedPrecondition(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            mend="set http.address to a free one, or to nothing",
        ) from None
    with listener:
        async with served(application(parts), listener, _BOUNDS):
            yield
