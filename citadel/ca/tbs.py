"""Writes certificates in DER: the part to be signed, once, and the whole around it (RFC 5280, section 4.1)."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca import der, keys
from citadel.ca.profile import EMPTY_NAME, CertificateSpec, Parent, Purpose

_V3 = 2
FIRST_GENERALIZED_YEAR = 2050  # RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on


def encode(spec: CertificateSpec) -> bytes:
    """The DER of the to-be-signed certificate that `spec` means."""
    validity = spec.validity
    return asn1.encode_der(
        der.TbsCertificate(
            version=_V3,
            serial=spec.serial,
            algorithm=spec.parent.algorithm,
            issuer=spec.parent.issuer,
            validity=der.Validity(not_before=_time(validity.not_before), not_after=_time(validity.not_after)),
            subject=der.tlv(spec.subject),
            spki=der.tlv(spec.key.spki),
            extensions=_extensions(spec),
        )
    )


def assemble(tbs: bytes, parent: Parent, signature: bytes) -> bytes:
    """The DER of the certificate: `tbs`, the parent's algorithm, the signature bits."""
    return asn1.encode_der(
        der.Certificate(tbs=der.tlv(tbs), algorithm=parent.algorithm, signature=asn1.BitString(signature, 0))
    )


def _time(moment: datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment) if moment.year >= FIRST_GENERALIZED_YEAR else asn1.UTCTime(moment)


def _key_usage(*, signature: bool = False, encipherment: bool = False, authority: bool = False) -> der.Extension:
    return der.extension(
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
_RSA_LEAF_USAGE = _key_usage(signature=True, encipherment=True)  # for RSA key exchange, X509-SVID section 4.3
_NO_AUTHORITY = der.extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
_BOTH_ENDS_OF_TLS = der.extension(
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
)


def _extensions(spec: CertificateSpec) -> list[der.Extension]:
    own_key_id = der.Extension(
        oid=ExtensionOID.SUBJECT_KEY_IDENTIFIER, critical=False, value=asn1.encode_der(spec.key.key_id)
    )
    parents_key_id = spec.parent.key_id_extension
    if spec.purpose is Purpose.LEAF:
        usage = _RSA_LEAF_USAGE if keys.is_rsa(spec.key.public_key) else _EC_LEAF_USAGE
        return [usage, _BOTH_ENDS_OF_TLS, _NO_AUTHORITY, own_key_id, parents_key_id, _alternative_names(spec)]
    authority = der.extension(x509.BasicConstraints(ca=True, path_length=spec.path_length), critical=True)
    if spec.purpose is Purpose.ROOT:  # RFC 5280, 4.2.1.1: a self-signed certificate may leave its parent's out
        return [_AUTHORITY_USAGE, authority, own_key_id, _alternative_names(spec)]
    return [_AUTHORITY_USAGE, authority, own_key_id, parents_key_id, _alternative_names(spec)]


def _alternative_names(spec: CertificateSpec) -> der.Extension:
    names = [x509.UniformResourceIdentifier(spec.spiffe_id.uri), *map(x509.DNSName, spec.dns_names)]
    critical = spec.subject == EMPTY_NAME  # RFC 5280, 4.2.1.6
    return der.extension(x509.SubjectAlternativeName(names), critical=critical)
