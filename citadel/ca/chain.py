"""Checks that certificates form a chain to a root and may sign (RFC 5280, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from citadel.ca import keys
from citadel.spiffe import TrustDomain

_MAX_CHAIN = 8


def order_chain(
    certificate: x509.Certificate, pool: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], x509.Certificate] | None:
    """From `certificate` up to one of `roots`, by signatures: the intermediates between them, and the root.

    None if no way leads to a root. A root in `pool` is not trusted for being there.
    """
    between: list[x509.Certificate] = []
    current = certificate
    for _ in range(_MAX_CHAIN):
        for root in roots:
            if current == root or _signed_by(current, root):
                return between, root
        above = next((c for c in pool if c != current and c not in between and _signed_by(current, c)), None)
        if above is None:
            return None
        between.append(above)
        current = above
    return None


def _signed_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def ca_faults(certificate: x509.Certificate, *, below: int, trust_domain: TrustDomain, now: datetime) -> list[str]:
    """What keeps `certificate` from being a CA with `below` CAs under it, as sentences; empty: nothing."""
    faults = []
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            faults.append("it is no CA certificate (basic constraints say CA:FALSE)")
        elif constraints.path_length is not None and constraints.path_length < below:
            faults.append(f"its path length {constraints.path_length} allows fewer than the {below} CAs under it")
    except x509.ExtensionNotFound:
        faults.append("it is no CA certificate (it has no basic constraints)")
    except ValueError as error:
        return [f"its extensions cannot be read: {error}"]
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            faults.append("its key usage does not allow signing certificates")
    except x509.ExtensionNotFound:
        pass  # RFC 5280, 4.2.1.3: without it every use is allowed
    if not isinstance(certificate.public_key(), keys.PublicKey):
        faults.append("its key is neither EC nor RSA")
    if now < certificate.not_valid_before_utc:
        faults.append(f"it is not valid before {certificate.not_valid_before_utc.isoformat()}")
    if now > certificate.not_valid_after_utc:
        faults.append(f"it expired at {certificate.not_valid_after_utc.isoformat()}")
    return faults + _foreign_names(certificate, trust_domain)


def _foreign_names(certificate: x509.Certificate, trust_domain: TrustDomain) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    ids = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("spiffe://")]
    return [f"it names {uri}, not our trust domain {trust_domain}" for uri in ids if uri != trust_domain.id.uri]
