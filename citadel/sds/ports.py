"""What SDS needs from the node: who calls, what that caller holds, and whom to tell what was acknowledged."""

from __future__ import annotations

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
    "Secrets",
    "View",
]


class Feed(Protocol):
    """What a caller may have, as it changes."""

    @property
    def view(self) -> View:
        """The newest view. The same object as long as nothing changed."""

    async def changed(self, seen: View) -> View:
        """Wait until the newest view is not `seen` and return it. Any number of changes in between are one.

        Raises PermissionDenied once the caller is not who it was (it ended, or its pid was reused)."""


class Caller(Protocol):
    """The process at the other end of a connection, as the kernel names it."""

    @property
    def uid(self) -> int: ...

    @property
    def name(self) -> str:
        """Stable for the life of the process, for logs and records: `pid 4711 uid 1000`. Never secret."""


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
    kind: str  # "sent", "ack", "nack", "gone"
    resource: str
    type_url: str
    version: str
    spiffe_id: str = ""
    sequence: int = 0
    serial: str = ""
    authority: str = ""
    not_after: datetime | None = None
    detail: str = ""


class Acknowledgements(Protocol):
    """Takes acknowledgements. Never blocks and never raises: a bounded queue whose overflow is counted; for one client
    and resource the newest wins."""

    def put(self, item: Acknowledgement) -> None: ...
