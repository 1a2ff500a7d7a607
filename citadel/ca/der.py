"""The DER shapes of certificates, as declared types (RFC 5280, section 4.1 and appendix A.1)."""

from __future__ import annotations

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1


@asn1.sequence
class AlgorithmIdentifier:
    oid: x509.ObjectIdentifier
    parameters: asn1.Null | None = None


@asn1.sequence
class SubjectPublicKeyInfo:
    algorithm: asn1.TLV
    key: asn1.BitString


@asn1.sequence
class Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class Extension:
    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class TbsCertificate:
    """What we write: v3, always with extensions, never with unique identifiers."""

    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    algorithm: AlgorithmIdentifier
    issuer: asn1.TLV
    validity: Validity
    subject: asn1.TLV
    spki: asn1.TLV
    extensions: Annotated[list[Extension], asn1.Explicit(3)]


@asn1.sequence
class Certificate:
    tbs: asn1.TLV
    algorithm: AlgorithmIdentifier
    signature: asn1.BitString


@asn1.sequence
class AnyTbsCertificate:
    """What anybody may write: for reading what others wrote, and for reading back what we wrote."""

    version: Annotated[int, asn1.Explicit(0), asn1.Default(0)]
    serial: int
    algorithm: asn1.TLV
    issuer: asn1.TLV
    validity: Validity
    subject: asn1.TLV
    spki: asn1.TLV
    issuer_unique_id: Annotated[asn1.BitString | None, asn1.Implicit(1)] = None
    subject_unique_id: Annotated[asn1.BitString | None, asn1.Implicit(2)] = None
    extensions: Annotated[list[asn1.TLV] | None, asn1.Explicit(3)] = None


@asn1.sequence
class AnyCertificate:
    tbs: AnyTbsCertificate
    algorithm: asn1.TLV
    signature: asn1.BitString


def tlv(der: bytes) -> asn1.TLV:
    """One DER value that is carried as it is. Raises ValueError if `der` is not exactly one."""
    return asn1.decode_der(asn1.TLV, der)


def extension(value: x509.ExtensionType, *, critical: bool) -> Extension:
    return Extension(oid=value.oid, critical=critical, value=value.public_bytes())


def subject_of(certificate: bytes) -> bytes:
    """The subject's DER, byte for byte as in `certificate`: what it signs must repeat it so. Raises ValueError."""
    return asn1.encode_der(asn1.decode_der(AnyCertificate, certificate).tbs.subject)
