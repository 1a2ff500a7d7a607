"""One open stream: what the client asks, what changes, and what is said to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, InvalidInput
from citadel.sds.files import FileSecrets, FileWatch, is_file_name
from citadel.sds.ports import Acknowledgement, Acknowledgements, Caller, Feed, Presence, StreamMeter
from citadel.sds.resources import Renderer
from citadel.sds.stream import SECRET_TYPE, Acked, Action, End, Nacked, Resource, Send, Subscription
from citadel.sds.wire import Asked, Garbage

_NODE_NAME = 400  # bytes: with a resource name of the longest, what an index of PostgreSQL takes (2704)
log = structlog.get_logger("citadel.sds")


def node_name(given: str) -> str:
    """A node id as it goes on record: printable, and of a length that every database can look up. What is cut short or
    has other characters is told from its like by a hash."""
    if len(given.encode()) <= _NODE_NAME and given.isprintable():
        return given
    shown = "".join(char if char.isprintable() else "?" for char in given[: _NODE_NAME // 5])
    return f"{shown}#{hashlib.sha256(given.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams share."""

    renderer: Renderer
    files: FileSecrets
    acknowledgements: Acknowledgements
    meter: StreamMeter
    clock: Clock
    presence: Presence


class Session:
    """Carries a Subscription over one gRPC stream. `write` encodes a response; `secrets_only`: a request for another
    type of resource ends it (SDS), otherwise it is left to others (ADS).

    The task that reads is the only one that an idle stream has. A change is written by a task of its own, so that a
    client that does not read holds up nobody but itself; it is owed one response at the most.
    """

    __slots__ = (
        "_around", "_caller", "_client", "_context", "_fault", "_feed", "_files", "_last", "_name", "_outbox",
        "_secrets_only", "_subscription", "_task", "_write", "_writer",
    )  # fmt: skip

    def __init__(
        self,
        around: Surroundings,
        context: Any,
        caller: Caller,
        feed: Feed,
        *,
        name: str,
        write: Callable[[Send], bytes],
        secrets_only: bool,
        max_names: int,
    ) -> None:
        self._around = around
        self._context = context
        self._caller = caller
        self._feed = feed
        self._name = name
        self._write = write
        self._secrets_only = secrets_only
        self._subscription = Subscription(max_names=max_names)
        self._client = ""
        self._last: dict[str, Resource] = {}
        self._files: dict[str, FileWatch] = {}
        self._outbox: list[Send] = []  # one, as long as the client answers only what it was sent
        self._writer: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._fault: CitadelError | None = None

    async def run(self) -> None:
        """Until the client ends it. Raises CitadelError if we end it."""
        self._task = asyncio.current_task()
        self._feed.follow(self._changed)
        try:
            while True:
                asked = await self._context.read()
                if isinstance(asked, Garbage):
                    raise InvalidInput("this is no request for resources")
                if not isinstance(asked, Asked):  # grpc.aio.EOF
                    return
                self._asked(asked)
                while self._outbox and self._writer is not None:
                    await asyncio.wait((self._writer,))  # who does not read is not listened to
        except asyncio.CancelledError:
            if self._fault is None:
                raise
            if self._task is not None:
                self._task.uncancel()
            raise self._fault from None
        except grpc.aio.BaseError:
            return  # the client went away while we were reading
        finally:
            self._feed.follow(None)
            if self._writer is not None:
                self._writer.cancel()
            for watch in self._files.values():
                watch.close()
            self._record("gone", self._last.values())
            if self._client:
                self._around.presence.left(self._client, held=bool(self._last))

    def _asked(self, asked: Asked) -> None:
        self._client = self._client or self._around.presence.came(node_name(asked.node), self._caller)
        if not self._secrets_only and asked.request.type_url != SECRET_TYPE:
            return
        self._do(self._subscription.request(asked.request, self._find))
        for name in [name for name in self._files if name not in self._subscription.names]:
            self._files.pop(name).close()

    def _changed(self) -> None:
        """What the caller may have is another, or it may have nothing any more."""
        try:
            _ = self._feed.view  # raises if the caller is not who it was, whatever the stream waits for
            self._do(self._subscription.changed(self._find))
        except CitadelError as error:
            self._end(error)

    def _find(self, name: str) -> Resource | None:
        view = self._feed.view
        if not is_file_name(name):
            return self._around.renderer.find(view, name)
        if not view.bundles:  # not registered
            return None
        if name not in self._files:
            self._files[name] = self._around.files.watch(name, self._caller, self._changed)
        return self._files[name].resource

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._outbox.append(action)
                case Acked(resources):
                    self._record("ack", resources)
                case Nacked(resources, detail):
                    names = [resource.name for resource in resources]
                    log.warning("a client rejected a secret", client=self._client, resources=names, detail=detail)
                    self._record("nack", resources, detail)
                case End(error):
                    raise error
        if self._outbox and self._writer is None:
            self._writer = asyncio.create_task(self._say())

    async def _say(self) -> None:
        try:
            while self._outbox:
                send = self._outbox.pop(0)
                await self._context.write(self._write(send))
                self._record("sent", send.resources)
        except grpc.aio.BaseError:
            pass  # the client went away meanwhile
        finally:
            self._writer = None

    def _end(self, error: CitadelError) -> None:
        """From outside of the reading task."""
        self._fault = error
        if self._task is not None:
            self._task.cancel()

    def _record(self, kind: str, resources: Iterable[Resource], detail: str = "") -> None:
        at = self._around.clock.now()
        for one in resources:
            self._last[one.name] = one
            if kind != "gone":
                self._around.meter.response(kind)
            self._around.acknowledgements.put(
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
                    uid=self._caller.uid,
                )
            )
