"""The node's one way to the server: an object in the same process, or (later) the network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from citadel.errors import CitadelError
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain

__all__ = [
    "AckKind",
    "AckReport",
    "AssignedEntry",
    "Bundle",
    "EntryUpdate",
    "Reissue",
    "Selector",
    "SignedSvid",
    "SvidRequest",
    "Upstream",
]


@dataclass(frozen=True, slots=True)
class AssignedEntry:
    """A registration entry that this node may serve: what it needs of it. A new revision is a new value."""

    id: str
    spiffe_id: SpiffeId
    selectors: frozenset[Selector]
    revision: int
    created_at: datetime
    x509_ttl: timedelta = timedelta(0)
    jwt_ttl: timedelta = timedelta(0)
    dns_names: tuple[str, ...] = ()
    federates_with: frozenset[TrustDomain] = frozenset()
    hint: str = ""
    admin: bool = False
    store_svid: bool = False
    expires_at: datetime | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EntryUpdate:
    """What changed among the entries that this node may serve: those that are new or changed, and the ids of those that
    it may serve no more. `whole`: `changed` is all of them, and whatever else is known is gone."""

    changed: tuple[AssignedEntry, ...]
    gone: frozenset[str] = frozenset()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trust domain's roots (DER, never empty) and CRLs (PEM); `sequence` grows with each change of content."""

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]
    sequence: int
    refresh_hint: int
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reissue:
    """Certificates that the issuing CAs `leave` (SKIDs) signed are to be replaced before they run out, at most
    `per_second` of them each second."""

    leave: frozenset[str]
    per_second: float


@dataclass(frozen=True, slots=True)
class SvidRequest:
    """Asks for a certificate for the key that signed `csr` (DER), as what `entry_id` says."""

    entry_id: str
    csr: bytes


@dataclass(frozen=True, slots=True)
class SignedSvid:
    """DER, leaf first, then intermediates, never the root. `authority` is the SKID of what signed the leaf."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    serial: int
    not_before: datetime
    not_after: datetime
    authority: str


class AckKind(StrEnum):
    ACK = "ack"
    NACK = "nack"
    SENT = "sent"  # sent, no answer yet
    GONE = "gone"  # the stream ended
    ENDED = "ended"  # the process ended, and with it all that it held: of the client as a whole, `resource` is empty
    FORGOTTEN = "forgotten"  # it was gone for so long that nothing it got is valid: of the client as a whole


@dataclass(frozen=True, slots=True)
class AckReport:
    """What one client said about one resource, or what we know of it.

    `client` names it stably over reconnects (its Envoy node id, the caller's user and process), `stream` only until it
    ends. `version` is the content's. `sequence` is the bundle's, for a bundle; `serial` and `not_after` the leaf's.
    """

    at: datetime
    client: str
    stream: str
    kind: AckKind
    resource: str
    type_url: str
    version: str
    spiffe_id: str = ""
    sequence: int = 0
    serial: str = ""
    authority: str = ""
    not_after: datetime | None = None
    detail: str = ""  # a NACK's error, cut to 1,000 characters


class Upstream(Protocol):
    """The server, as a node sees it. Implementations: api.local (same process); later the SPIRE Server API over
    mTLS. Contract: tests/contract/test_upstream_port.py.

    Watches yield the present state at once, and go on after each change (several changes may be one item); a slow
    reader costs a bounded amount of memory and sees the newest only. While the server is away a watch stays open and
    resumes by itself; `sign` and `report` raise Unavailable. All calls are safe from many tasks at once.
    """

    @property
    def trust_domain(self) -> TrustDomain: ...

    @property
    def node_id(self) -> SpiffeId: ...

    def entries(self) -> AbstractAsyncContextManager[AsyncIterator[EntryUpdate]]:
        """The entries that this node may serve: first all of them, then what changes; all of them again whenever the
        server cannot tell what did."""

    def bundles(self) -> AbstractAsyncContextManager[AsyncIterator[dict[TrustDomain, Bundle]]]:
        """Our own trust domain's bundle and the federated ones. Yields nothing until our own exists."""

    def reissue(self) -> AbstractAsyncContextManager[AsyncIterator[Reissue]]:
        """Which issuing CAs are left, in a rotation: what they signed is to be replaced."""

    async def sign(self, requests: Sequence[SvidRequest]) -> list[SignedSvid | CitadelError]:
        """One answer a request, in order; an error concerns its own request only. An answer that was given is on
        record. Raises Unavailable if nothing could be asked."""

    async def report(self, reports: Sequence[AckReport]) -> None:
        """Hand over what clients acknowledged. Returns when the server has written it down."""

    async def recorded(self) -> list[str]:
        """The clients of this node that are on record and have not ended. Raises Unavailable."""
