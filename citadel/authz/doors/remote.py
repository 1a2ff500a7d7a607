"""Callers over the network: who a client certificate says they are, and what they are registered as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from citadel.authz.doors.certificates import ClientCertificate
from citadel.authz.doors.ports import Caller, Connection, Registered
from citadel.clock import Clock
from citadel.errors import PermissionDenied
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
class _Registered:
    """What somebody counts as, for as long as `found` and `trust` are what is known."""

    found: Sequence[Registration]
    trust: Trust
    entries: tuple[Registered, ...]
    trust_domains: frozenset[TrustDomain]

    @classmethod
    def of(cls, found: Sequence[Registration], trust: Trust) -> _Registered:
        domains = frozenset({trust.trust_domain}).union(*(one.federates_with for one in found))
        return cls(found, trust, tuple(one.registered for one in found), domains)


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
        self._known: dict[SpiffeId, _Registered] = {}

    async def caller(self, connection: Connection) -> Caller:
        certificate, trust = _certificate(connection.auth_context()), self._trust()
        caller = certificate.spiffe_id
        if caller is None:
            raise PermissionDenied("the client certificate has not one SPIFFE ID")
        if caller.trust_domain != trust.trust_domain:
            raise PermissionDenied(f"{caller} is not of {trust.trust_domain}")
        if certificate.not_after <= self._clock.now():
            raise PermissionDenied(f"the certificate of {caller} has ended")
        if certificate.revoked_by(trust.crls):
            raise PermissionDenied(f"the certificate of {caller} is revoked")
        found = self._registrations.of(caller)
        known = self._known.get(caller)
        if known is None or known.found is not found or known.trust is not trust:
            if len(self._known) >= _MOST_CERTIFICATES:
                self._known = {}
            known = self._known[caller] = _Registered.of(found, trust)
        name = f"{caller.uri} at {self._address(connection.peer())}"
        return Caller(name, known.entries, known.trust_domains, local=False)


def _certificate(proven: Mapping[str, object]) -> ClientCertificate:
    """Of gRPC's auth_context. Raises PermissionDenied."""
    certificates = proven.get("x509_pem_cert")
    if not isinstance(certificates, list | tuple) or len(certificates) != 1 or not isinstance(certificates[0], bytes):
        raise PermissionDenied("the connection has no client certificate")
    return _read(certificates[0])


@lru_cache(_MOST_CERTIFICATES)
def _read(pem: bytes) -> ClientCertificate:
    try:
        return ClientCertificate.of(x509.load_pem_x509_certificate(pem))
    except ValueError:
        raise PermissionDenied("the client certificate cannot be read") from None
