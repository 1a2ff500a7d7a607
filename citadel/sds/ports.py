"""What SDS needs from the node: who calls, what that caller holds, and whom to tell what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from citadel.held import HeldBundle, HeldIdentity, View

__all__ = [
    "Acknowledgement",
    "Acknowledgements",
    "Caller",
    "Feed",
    "HeldBundle",
    "HeldIdentity",
    "NoMeter",
    "Presence",
    "Secrets",
    "StreamMeter",
    "Unwatched",
    "View",
]


class Feed(Protocol):
    """What a caller may have, as it changes."""

    @property
    def view(self) -> View:
        """The newest view. The same object as long as nothing changed.

        Raises PermissionDenied once the caller is not who it was (it ended, or its pid was reused)."""

    def follow(self, told: Callable[[], None] | None) -> None:
        """From now on `told` (None: nobody) is called each time that `view` would answer something else. It is called
        in the event loop, and must neither wait nor raise."""


class Caller(Protocol):
    """The process at the other end of a connection, as the kernel names it."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def name(self) -> str:
        """Stable for the life of the process, for logs and records: `pid 4711 uid 1000`. Never secret."""

    @property
    def process(self) -> str:
        """Names this very process, also after it has ended and its pid was given to another."""


class Presence(Protocol):
    """Names clients, and reports by itself (`ended`) when the process of one has ended. Implementation:
    workload.census."""

    def came(self, node: str, caller: Caller) -> str:
        """A stream begins, of an Envoy that calls itself `node`; the client's name: another for each process. Raises
        ResourceExhausted if its process, or user, goes by too many names."""

    def left(self, client: str, *, held: bool) -> None:
        """One of its streams has ended, and all that is to be reported of it was. `held`: it was sent something."""


class Unwatched:
    """Names clients, and never reports that one has ended."""

    def came(self, node: str, caller: Caller) -> str:
        return f"{node or 'unnamed'}@uid:{caller.uid}/pid:{caller.process}"

    def left(self, client: str, *, held: bool) -> None:
        pass


class Secrets(Protocol):
    """Where SDS gets what it serves."""

    def open(self, peer: str) -> AbstractAsyncContextManager[tuple[Caller, Feed]]:
        """The feed of the caller that gRPC calls `peer` (context.peer()). The caller is attested on entry and while
        the context is open. A caller without registration gets an empty view, which fills when it is registered.
        Raises PermissionDenied if the peer is not one of our relay's, ResourceExhausted past its quota of streams.
        """


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a client said about one resource that we sent; see workload.upstream.AckReport for the fields."""

    at: datetime
    client: str
    stream: str
    kind: str  # "sent", "ack", "nack", "gone"; of a client as a whole (`resource` is empty): "ended", "forgotten"
    resource: str
    type_url: str
    version: str
    spiffe_id: str = ""
    sequence: int = 0
    serial: str = ""
    authority: str = ""
    not_after: datetime | None = None
    detail: str = ""
    uid: int = -1  # the caller's


class Acknowledgements(Protocol):
    """Takes acknowledgements. Never blocks and never raises: a bounded queue whose overflow is counted, and is at the
    cost of the user who has the most in it; for one client and resource the newest wins."""

    def put(self, item: Acknowledgement) -> None: ...


class StreamMeter(Protocol):
    """Counts what streams do. Implementation: telemetry.metrics. Never blocks, never raises."""

    def stream_opened(self, method: str) -> None:
        """`method`: `StreamSecrets`, `DeltaSecrets`, `StreamAggregatedResources` or `DeltaAggregatedResources`."""

    def stream_closed(self, method: str) -> None: ...

    def stream_refused(self, reason: str) -> None:
        """We ended one, or answered none. `reason` is the gRPC code's name, in small letters."""

    def response(self, kind: str) -> None:
        """One resource was `sent`, or answered with `ack` or `nack`."""

    def report_lost(self) -> None:
        """An acknowledgement was not recorded: the queue is full."""


class NoMeter:
    """Counts nothing."""

    def stream_opened(self, method: str) -> None:
        pass

    def stream_closed(self, method: str) -> None:
        pass

    def stream_refused(self, reason: str) -> None:
        pass

    def response(self, kind: str) -> None:
        pass

    def report_lost(self) -> None:
        pass
