"""/livez, /readyz and /metrics: what probes and Prometheus ask, without secrets and without authentication."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from citadel.api.serving import served
from citadel.errors import FailedPrecondition

_LIMIT = 100  # requests at once
_CONNECTIONS = 256  # each costs a descriptor, which the workload socket would lack, and anybody here can open them
_LIFE_SECONDS = 30.0  # of a connection: probes are done by then, and who says nothing makes room


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


class _Bounded(H11Protocol):
    """A connection: one of a few at once, and not for long."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
            return
        self._end = self.loop.call_later(_LIFE_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


@asynccontextmanager
async def serving(parts: HttpParts, host: str, port: int) -> AsyncIterator[None]:
    """Serve inside the context. Raises FailedPrecondition if the address cannot be had."""
    config = uvicorn.Config(
        application(parts),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=_Bounded,
        limit_concurrency=_LIMIT,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    taken = FailedPrecondition(
        f"{host}:{port} cannot be listened on", mend="set http.address to a free one, or to nothing"
    )
    async with served(config, taken):
        yield
