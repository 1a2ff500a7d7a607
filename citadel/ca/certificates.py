"""Reads CA certificates into values: the one place that looks at an authority's X.509."""

from __future__ import annotations

import hashlib

from cryptography import x509

from citadel.ca import keys
from citadel.ca.model import AuthorityCertificate, Skid
from citadel.errors import InvalidInput


def read_certificate(der: bytes) -> AuthorityCertificate:
    """An authority's certificate from DER. Raises InvalidInput if it is none, or its key is neither EC nor RSA."""
    try:
        parsed = x509.load_der_x509_certificate(der)
        subject = parsed.subject.rfc4514_string()
        issuer_skid = _authority_key_id(parsed)
    except ValueError as error:
        raise InvalidInput(f"this is no X.509 certificate: {error}") from error
    return AuthorityCertificate(
        der=der,
        fingerprint=hashlib.sha256(der).hexdigest(),
        subject=subject,
        serial=parsed.serial_number,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        issuer_skid=issuer_skid or (skid_of(parsed) if parsed.subject == parsed.issuer else None),
    )


def skid_of(certificate: x509.Certificate) -> Skid:
    """Its subject key identifier; if it has none, RFC 5280's method 1 over its key."""
    try:
        return Skid(certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex())
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        if not isinstance(key, keys.PublicKey):
            raise InvalidInput("the key of this certificate is neither EC nor RSA") from None
        return keys.skid(key)


def _authority_key_id(certificate: x509.Certificate) -> Skid | None:
    try:
        digest = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    return Skid(digest.hex()) if digest else None


def split_der(joined: bytes) -> list[bytes]:
    """DER values that stand one behind the other, each by itself. Raises InvalidInput."""
    found = []
    while joined:
        size = _der_size(joined)
        if size > len(joined):
            raise InvalidInput("a DER value is cut short")
        found.append(joined[:size])
        joined = joined[size:]
    return found


def _der_size(data: bytes) -> int:
    if len(data) < 2:
        raise InvalidInput("a DER value is cut short")
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if not 1 <= count <= 4 or len(data) < 2 + count:
        raise InvalidInput("a DER length is malformed")
    return 2 + count + int.from_bytes(data[2 : 2 + count])
