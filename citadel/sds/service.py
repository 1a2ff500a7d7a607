"""SDS and ADS over grpc.aio: the methods, and how streams begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, InternalFault, InvalidInput
from citadel.sds.files import FileSecrets
from citadel.sds.ports import Acknowledgements, NoMeter, Presence, Secrets, StreamMeter, Unwatched
from citadel.sds.resources import Renderer
from citadel.sds.session import Session, Surroundings
from citadel.sds.stream import End, Send, Subscription
from citadel.sds.wire import Asked, Garbage, read_delta, read_sotw, write_delta, write_sotw

#: For grpc.aio.server: without the first two a burst of reconnects loses streams (measured: docs/adr).
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.server.max_pending_requests", 32_768),
    ("grpc.server.max_pending_requests_hard_limit", 32_768),
    ("grpc.max_concurrent_streams", 256),  # counts those that were reset, too, as long as they cost memory
    ("grpc.max_receive_message_length", 256 << 10),  # an Envoy's has about 61 kB; unfinished ones cost memory
    ("grpc.so_reuseport", 0),
    ("grpc.enable_channelz", 0),  # a record of each connection and call that nobody reads, 3 KiB a stream
    ("grpc.enable_deadline_checking", 0),  # streams have no deadline; a filter less
)
_TOLD_EVERY = 1.0  # seconds
log = structlog.get_logger("citadel.sds")


class SecretService:
    """Serves one Secrets port to any number of streams."""

    def __init__(
        self,
        secrets: Secrets,
        acknowledgements: Acknowledgements,
        clock: Clock,
        *,
        files: FileSecrets | None = None,
        meter: StreamMeter | None = None,
        presence: Presence | None = None,
        max_names: int = 256,
    ) -> None:
        self._secrets = secrets
        self._meter = meter or NoMeter()
        self._max_names = max_names
        self._around = Surroundings(
            Renderer(),
            FileSecrets((), clock) if files is None else files,
            acknowledgements,
            self._meter,
            clock,
            Unwatched() if presence is None else presence,
        )
        self._count = 0
        self.streams = 0
        self._untold = 0  # ended, and not in the log yet
        self._told_at = -_TOLD_EVERY

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register both services. Source: envoy.service.{secret,discovery}.v3."""
        sds = {
            "StreamSecrets": self._stream("StreamSecrets", read_sotw, write_sotw, secrets_only=True),
            "DeltaSecrets": self._stream("DeltaSecrets", read_delta, write_delta, secrets_only=True),
            "FetchSecrets": grpc.unary_unary_rpc_method_handler(self._fetch, request_deserializer=read_sotw),
        }
        ads = {
            "StreamAggregatedResources": self._stream("StreamAggregatedResources", read_sotw, write_sotw),
            "DeltaAggregatedResources": self._stream("DeltaAggregatedResources", read_delta, write_delta),
        }
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("envoy.service.secret.v3.SecretDiscoveryService", sds),
                grpc.method_handlers_generic_handler("envoy.service.discovery.v3.AggregatedDiscoveryService", ads),
            )
        )

    def _stream(
        self,
        method: str,
        read: Callable[[bytes], Asked | Garbage],
        write: Callable[[Send], bytes],
        *,
        secrets_only: bool = False,
    ) -> Any:
        async def serve(_: Any, context: Any) -> None:  # one frame a stream: idle ones are many
            self.streams += 1
            self._count += 1
            self._meter.stream_opened(method)
            try:
                async with self._secrets.open(context.peer()) as (caller, feed):
                    session = Session(
                        self._around, context, caller, feed, name=str(self._count), write=write,
                        secrets_only=secrets_only, max_names=self._max_names,
                    )  # fmt: skip
                    await session.run()
            except CitadelError as error:
                await self._refuse(context, error)
            finally:
                self.streams -= 1
                self._meter.stream_closed(method)

        return grpc.stream_stream_rpc_method_handler(serve, request_deserializer=read)

    async def _fetch(self, asked: Asked | Garbage, context: Any) -> bytes:
        try:
            return await self._fetched(asked, context)
        except CitadelError as error:
            await self._refuse(context, error)
            raise

    async def _fetched(self, asked: Asked | Garbage, context: Any) -> bytes:
        """What there is now; names of files are for streams, which can wait until these were read."""
        if isinstance(asked, Garbage):
            raise InvalidInput("this is no request for resources")
        async with self._secrets.open(context.peer()) as (_, feed):
            catalog = self._around.renderer.catalog(feed.view)
            for action in Subscription(max_names=self._max_names).request(asked.request, catalog):
                match action:
                    case End(error):
                        raise error
                    case Send():
                        return write_sotw(action)
        return write_sotw(Send("1", ()))

    def _tell(self, error: CitadelError) -> None:
        """Once a second at most, with how many there were: a flood of streams must not become one of the log."""
        self._untold += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= _TOLD_EVERY:
            log.info("a stream was ended", why=error.message, count=self._untold)
            self._untold, self._told_at = 0, now

    async def _refuse(self, context: Any, error: CitadelError) -> None:
        """End the call with `error` as gRPC says it; does not return."""
        self._tell(error)
        self._meter.stream_refused(error.code.name.lower())
        code = next(c for c in grpc.StatusCode if c.value[0] == int(error.code))
        text = error.public if isinstance(error, InternalFault) else error.message
        await context.abort(code, " ".join(text.split())[:300])
