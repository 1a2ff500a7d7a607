"""Writes certificates in DER: the part to be signed, once, and the whole around it (RFC 5280, section 4.1)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca import keys
from citadel.ca.profile import EMPTY_NAME, CertificateSpec, Parent, Purpose

_V3 = 2
_FIRST_GENERALIZED_YEAR = 2050  # RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on


@asn1.sequence
class _AlgorithmIdentifier:
    oid: x509.ObjectIdentifier
    parameters: asn1.Null | None = None


@asn1.sequence
class _Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class _Extension:
    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _TbsCertificate:
    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    algorithm: _AlgorithmIdentifier
    issuer: asn1.TLV
    validity: _Validity
    subject: asn1.TLV
    spki: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


@asn1.sequence
class _Certificate:
    tbs: asn1.TLV
    algorithm: _AlgorithmIdentifier
    signature: asn1.BitString


def encode(spec: CertificateSpec) -> bytes:
    """The DER of the to-be-signed certificate that `spec` means."""
    return asn1.encode_der(
        _TbsCertificate(
            version=_V3,
            serial=spec.serial,
            algorithm=_algorithm(spec.parent),
            issuer=_tlv(spec.parent.name),
            validity=_Validity(not_before=_time(spec.validity.not_before), not_after=_time(spec.validity.not_after)),
            subject=_tlv(spec.subject),
            spki=_tlv(spec.spki),
            extensions=_extensions(spec),
        )
    )


def assemble(tbs: bytes, parent: Parent, signature: bytes) -> bytes:
    """The DER of the certificate: `tbs`, the parent's algorithm, the signature bits."""
    return asn1.encode_der(
        _Certificate(tbs=_tlv(tbs), algorithm=_algorithm(parent), signature=asn1.BitString(signature, 0))
    )


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)


def _algorithm(parent: Parent) -> _AlgorithmIdentifier:
    algorithm = keys.signature_algorithm(parent.public_key)
    return _AlgorithmIdentifier(oid=algorithm.oid, parameters=asn1.Null() if algorithm.null_parameters else None)


def _time(moment: datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment) if moment.year >= _FIRST_GENERALIZED_YEAR else asn1.UTCTime(moment)


def _extension(value: x509.ExtensionType, *, critical: bool) -> _Extension:
    return _Extension(oid=value.oid, critical=critical, value=value.public_bytes())


def _key_usage(*, signature: bool = False, encipherment: bool = False, authority: bool = False) -> _Extension:
    return _extension(
        x509.KeyUsage(
            digital_signature=signature,
            content_commitment=False,
            key_encipherment=encipherment,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        ),
        critical=True,
    )


# What never changes is encoded once.
_AUTHORITY_USAGE = _key_usage(authority=True)
_EC_LEAF_USAGE = _key_usage(signature=True)
_RSA_LEAF_USAGE = _key_usage(signature=True, encipherment=True)  # TLS 1.2's RSA key exchange, X509-SVID section 4.3
_NO_AUTHORITY = _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
_BOTH_ENDS_OF_TLS = _extension(
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
)


def _extensions(spec: CertificateSpec) -> list[_Extension]:
    if spec.purpose is Purpose.LEAF:
        usage = [_RSA_LEAF_USAGE if keys.is_rsa(spec.public_key) else _EC_LEAF_USAGE, _BOTH_ENDS_OF_TLS, _NO_AUTHORITY]
    else:
        usage = [
            _AUTHORITY_USAGE,
            _extension(x509.BasicConstraints(ca=True, path_length=spec.path_length), critical=True),
        ]
    names = [_subject_key_id(spec), _subject_alternative_name(spec)]
    if spec.purpose is not Purpose.ROOT:  # RFC 5280, 4.2.1.1: a self-signed certificate may leave it out
        names.insert(1, _authority_key_id(spec.parent))
    return usage + names


def _subject_key_id(spec: CertificateSpec) -> _Extension:
    return _extension(x509.SubjectKeyIdentifier(spec.key_id), critical=False)


def _authority_key_id(parent: Parent) -> _Extension:
    return _extension(x509.AuthorityKeyIdentifier(parent.key_id, None, None), critical=False)


def _subject_alternative_name(spec: CertificateSpec) -> _Extension:
    names = [x509.UniformResourceIdentifier(spec.spiffe_id.uri), *map(x509.DNSName, spec.dns_names)]
    critical = spec.subject == EMPTY_NAME  # RFC 5280, 4.2.1.6
    return _Extension(
        oid=ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        critical=critical,
        value=x509.SubjectAlternativeName(names).public_bytes(),
    )
