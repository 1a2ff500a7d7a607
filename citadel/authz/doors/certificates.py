"""A client certificate that TLS has verified: whose it is, when it ends, and whether a CRL says that it was revoked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Self

from cryptography import x509

from citadel.errors import BadSpiffeId
from citadel.spiffe import SpiffeId

_MOST_LISTS = 16  # that are remembered as read


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What counts of a certificate."""

    spiffe_id: SpiffeId | None
    """Its one URI SAN (X509-SVID, 5.2). None: it has none, several, or one that is no SPIFFE ID."""
    not_after: datetime
    serial: int
    issuer: x509.Name

    @classmethod
    def of(cls, leaf: x509.Certificate) -> Self:
        return cls(_spiffe_id(leaf), leaf.not_valid_after_utc, leaf.serial_number, leaf.issuer)

    def revoked_by(self, crls: Iterable[bytes]) -> bool:
        """`crls`: PEM, verified when they came into the bundle."""
        return any((self.issuer, self.serial) in _revocations(one) for one in crls)


def _spiffe_id(leaf: x509.Certificate) -> SpiffeId | None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return SpiffeId.parse(uri)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, BadSpiffeId):
        return None


@lru_cache(_MOST_LISTS)
def _revocations(pem: bytes) -> frozenset[tuple[x509.Name, int]]:
    found = x509.load_pem_x509_crl(pem)
    return frozenset((found.issuer, one.serial_number) for one in found)
