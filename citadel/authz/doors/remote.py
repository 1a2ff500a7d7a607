"""Callers over the network: who a client certificate says they are, and what they are registered as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from citadel.authz.doors.ports import Caller, Connection, Registered
from citadel.clock import Clock
from citadel.errors import BadSpiffeId, PermissionDenied
from citadel.spiffe import SpiffeId, TrustDomain

_MOST_CERTIFICATES = 4096  # that are remembered as read


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration entry of somebody."""

    registered: Registered
    federates_with: frozenset[TrustDomain] = frozenset()


class Registrations(Protocol):
    """Who is registered. Implementation: in citadel.server, over registry.Directory. Never waits."""

    def of(self, spiffe_id: SpiffeId) -> Sequence[Registration]:
        """The entries of this ID that are in force, the oldest first. Raises Unavailable if nobody's are known yet."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the certificates of callers are judged by, beside the roots that TLS has verified them by."""

    trust_domain: TrustDomain
    crls: tuple[bytes, ...] = ()
    """PEM."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What counts of a certificate."""

    spiffe_id: SpiffeId
    not_after: datetime
    serial: int
    issuer: x509.Name


class RemoteCallers:
    """Contract: ports.Callers, for connections whose client certificate TLS has verified by our own trust bundle.

    A certificate counts until it ends or is revoked, also on a connection that is open; an entry until it is gone.
    """

    def __init__(
        self, registrations: Registrations, trust: Callable[[], Trust], clock: Clock, address: Callable[[str], str]
    ) -> None:
        """`address`: where a connection, by what gRPC calls its peer, comes from; for the log."""
        self._registrations = registrations
        self._trust = trust
        self._clock = clock
        self._address = address

    async def caller(self, connection: Connection) -> Caller:
        leaf = _leaf(connection.auth_context())
        trust = self._trust()
        if leaf.spiffe_id.trust_domain != trust.trust_domain:
            raise PermissionDenied(f"{leaf.spiffe_id} is not of {trust.trust_domain}")
        if leaf.not_after <= self._clock.now():
            raise PermissionDenied(f"the certificate of {leaf.spiffe_id} has ended")
        if _revoked(leaf, trust.crls):
            raise PermissionDenied(f"the certificate of {leaf.spiffe_id} is revoked")
        found = self._registrations.of(leaf.spiffe_id)
        domains = frozenset({trust.trust_domain}).union(*(one.federates_with for one in found))
        name = f"{leaf.spiffe_id} at {self._address(connection.peer())}"
        return Caller(name, tuple(one.registered for one in found), domains, local=False)


def _leaf(proven: Mapping[str, object]) -> _Leaf:
    """Of gRPC's auth_context. Raises PermissionDenied."""
    certificates = proven.get("x509_pem_cert")
    if not isinstance(certificates, list | tuple) or len(certificates) != 1 or not isinstance(certificates[0], bytes):
        raise PermissionDenied("the connection has no client certificate")
    return _read(certificates[0])


@lru_cache(_MOST_CERTIFICATES)
def _read(pem: bytes) -> _Leaf:
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return _Leaf(SpiffeId.parse(uri), leaf.not_valid_after_utc, leaf.serial_number, leaf.issuer)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, BadSpiffeId):
        raise PermissionDenied("the client certificate has not one SPIFFE ID") from None


def _revoked(leaf: _Leaf, crls: Sequence[bytes]) -> bool:
    return any((leaf.issuer, leaf.serial) in _revocations(one) for one in crls)


@lru_cache(16)
def _revocations(pem: bytes) -> frozenset[tuple[x509.Name, int]]:
    """Of a CRL that was verified when it came into the bundle."""
    found = x509.load_pem_x509_crl(pem)
    return frozenset((found.issuer, one.serial_number) for one in found)
