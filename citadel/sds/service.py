"""SDS and ADS over grpc.aio: the transport around stream.Subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from envoy.service.discovery.v3 import discovery_pb2

from citadel.clock import Clock
from citadel.errors import CitadelError, InternalFault
from citadel.sds.ports import Acknowledgement, Acknowledgements, Caller, Feed, Secrets, View
from citadel.sds.resources import Renderer
from citadel.sds.stream import (
    SECRET_TYPE,
    Acked,
    Action,
    DeltaRequest,
    End,
    Nacked,
    Resource,
    Send,
    SotwRequest,
    Subscription,
)

#: For grpc.aio.server: without the first two a burst of reconnects loses streams (measured: docs/adr).
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.server.max_pending_requests", 1_000_000),
    ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.so_reuseport", 0),
)
_MAX_NODE = 256
log = structlog.get_logger("citadel.sds")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, reduced to what matters the moment it is read: the whole message would cost a stream 238 KiB."""

    node: str
    request: SotwRequest | DeltaRequest


def _read_sotw(raw: bytes) -> _Asked:
    message = discovery_pb2.DiscoveryRequest.FromString(raw)
    error = message.error_detail.message if message.HasField("error_detail") else None
    request = SotwRequest(
        message.type_url, tuple(message.resource_names), message.response_nonce, message.version_info, error
    )
    return _Asked(message.node.id[:_MAX_NODE], request)


def _read_delta(raw: bytes) -> _Asked:
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
    request = DeltaRequest(
        message.type_url,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
    )
    return _Asked(message.node.id[:_MAX_NODE], request)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field. Messages concatenate, so a shared body is copied and never encoded again."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _write_sotw(send: Send) -> bytes:
    """A DiscoveryResponse: version_info 1, resources 2, type_url 4, nonce 5."""
    parts = [_field(1, send.version.encode())]
    parts += [_field(2, resource.body) for resource in send.resources]
    return b"".join([*parts, _field(4, SECRET_TYPE.encode()), _field(5, send.nonce.encode())])


def _write_delta(send: Send) -> bytes:
    """A DeltaDiscoveryResponse: system_version_info 1, resources 2 (version 1, resource 2, name 3), type_url 4,
    nonce 5."""
    parts = [_field(1, send.version.encode())]
    for one in send.resources:
        body = _field(1, one.version.encode()) + _field(2, one.body) + _field(3, one.name.encode())
        parts += [_field(2, body)]
    return b"".join([*parts, _field(4, SECRET_TYPE.encode()), _field(5, send.nonce.encode())])


class SecretService:
    """Serves one Secrets port to any number of streams."""

    def __init__(
        self, secrets: Secrets, acknowledgements: Acknowledgements, clock: Clock, *, max_names: int = 256
    ) -> None:
        self._secrets = secrets
        self._acks = acknowledgements
        self._clock = clock
        self._max_names = max_names
        self._renderer = Renderer()
        self._count = 0
        self.streams = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register both services. Source: envoy.service.{secret,discovery}.v3."""

        def stream(read: Callable[[bytes], _Asked], write: Callable[[Send], bytes], strict: bool) -> Any:
            async def serve(_: Any, context: Any) -> None:
                await self._serve(context, write, strict=strict)

            return grpc.stream_stream_rpc_method_handler(serve, request_deserializer=read)

        sds = {
            "StreamSecrets": stream(_read_sotw, _write_sotw, True),
            "DeltaSecrets": stream(_read_delta, _write_delta, True),
            "FetchSecrets": grpc.unary_unary_rpc_method_handler(self._fetch, request_deserializer=_read_sotw),
        }
        ads = {
            "StreamAggregatedResources": stream(_read_sotw, _write_sotw, False),
            "DeltaAggregatedResources": stream(_read_delta, _write_delta, False),
        }
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("envoy.service.secret.v3.SecretDiscoveryService", sds),
                grpc.method_handlers_generic_handler("envoy.service.discovery.v3.AggregatedDiscoveryService", ads),
            )
        )

    async def _serve(self, context: Any, write: Callable[[Send], bytes], *, strict: bool) -> None:
        self.streams += 1
        try:
            async with self._secrets.open(context.peer()) as (caller, feed):
                self._count += 1
                stream = _Stream(self, context, caller, feed, write, name=str(self._count), strict=strict)
                await stream.run()
        except CitadelError as error:
            log.info("a stream was ended", why=error.message)
            await _abort(context, error)
        except grpc.aio.UsageError:
            pass  # the client went away while we were reading or writing
        finally:
            self.streams -= 1

    async def _fetch(self, asked: _Asked, context: Any) -> bytes:
        subscription = Subscription(max_names=self._max_names)
        try:
            async with self._secrets.open(context.peer()) as (_, feed):
                for action in subscription.request(asked.request, self._renderer.catalog(feed.view)):
                    match action:
                        case End(error):
                            raise error
                        case Send():
                            return _write_sotw(action)
        except CitadelError as error:
            await _abort(context, error)
        return _write_sotw(Send("1", ()))

    def subscription(self) -> Subscription:
        return Subscription(max_names=self._max_names)

    def catalog(self, view: View) -> Callable[[str], Resource | None]:
        return self._renderer.catalog(view)

    def record(self, item: Acknowledgement) -> None:
        self._acks.put(item)

    def now(self) -> Any:
        return self._clock.now()


async def _abort(context: Any, error: CitadelError) -> None:
    code = next(c for c in grpc.StatusCode if c.value[0] == int(error.code))
    text = error.public if isinstance(error, InternalFault) else error.message
    await context.abort(code, " ".join(text.split())[:300])


class _Stream:
    """One open stream: waits for the client or for a change, whichever comes first."""

    def __init__(
        self,
        service: SecretService,
        context: Any,
        caller: Caller,
        feed: Feed,
        write: Callable[[Send], bytes],
        *,
        name: str,
        strict: bool,
    ) -> None:
        self._service = service
        self._context = context
        self._feed = feed
        self._write = write
        self._name = name
        self._strict = strict
        self._uid = caller.uid
        self._node = ""
        self._subscription = service.subscription()
        self._last: dict[str, Resource] = {}

    async def run(self) -> None:
        """Until the client ends it. Raises CitadelError if we end it."""
        view = self._feed.view
        reading = asyncio.ensure_future(self._context.read())
        waiting = asyncio.ensure_future(self._feed.changed(view))
        try:
            while True:
                await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    asked = reading.result()
                    if not isinstance(asked, _Asked):  # grpc.aio.EOF
                        return
                    await self._asked(asked, view)
                    reading = asyncio.ensure_future(self._context.read())
                if waiting.done():
                    view = waiting.result()
                    await self._do(self._subscription.changed(self._service.catalog(view)))
                    waiting = asyncio.ensure_future(self._feed.changed(view))
        finally:
            for task in (reading, waiting):
                task.cancel()
                with suppress(asyncio.CancelledError, CitadelError, grpc.aio.UsageError):
                    await task
            self._gone()

    async def _asked(self, asked: _Asked, view: View) -> None:
        self._node = self._node or asked.node
        if not self._strict and asked.request.type_url != SECRET_TYPE:
            return  # ADS carries other types too; we have none of them yet
        await self._do(self._subscription.request(asked.request, self._service.catalog(view)))

    async def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    await self._context.write(self._write(action))
                    self._record("sent", action.resources)
                case Acked(resources):
                    self._record("ack", resources)
                case Nacked(resources, detail):
                    log.warning(
                        "a client rejected a secret",
                        client=self._client,
                        resources=[r.name for r in resources],
                        detail=detail,
                    )
                    self._record("nack", resources, detail)
                case End(error):
                    raise error

    @property
    def _client(self) -> str:
        return f"{self._node or 'unnamed'}@uid:{self._uid}"

    def _gone(self) -> None:
        self._record("gone", self._last.values())

    def _record(self, kind: str, resources: Any, detail: str = "") -> None:
        at = self._service.now()
        for one in resources:
            self._last[one.name] = one
            self._service.record(
                Acknowledgement(
                    at=at,
                    client=self._client,
                    stream=self._name,
                    kind=kind,
                    resource=one.name,
                    type_url=SECRET_TYPE,
                    version=one.version,
                    spiffe_id=one.spiffe_id,
                    sequence=one.sequence,
                    serial=one.serial,
                    authority=one.authority,
                    not_after=one.not_after,
                    detail=detail,
                )
            )
