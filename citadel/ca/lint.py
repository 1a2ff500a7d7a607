"""The linter: reads a to-be-signed certificate back and holds it against RFC 5280, X509-SVID and what was meant.

It reads by another route (cryptography's X.509 parser) than the one that wrote it. What it finds sound becomes a
`LintedCertificate`, which nobody else can make and which is all that a signer accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import InitVar, dataclass

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca import keys
from citadel.ca.der import AnyTbsCertificate
from citadel.ca.profile import EMPTY_NAME, CertificateSpec, Parent, Purpose
from citadel.ca.tbs import FIRST_GENERALIZED_YEAR, assemble
from citadel.errors import BadSpiffeId, InternalFault
from citadel.spiffe import SpiffeId

_SEAL = object()
_NO_SIGNATURE = bytes(64)  # stands where the signature will be; no parser looks into it
_V3 = 2
_MAX_SERIAL = 2**128 - 1
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_BOTH_ENDS_OF_TLS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_UNREADABLE = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

# AlgorithmIdentifiers by the signing key's kind, byte for byte (RFC 4055 section 5, RFC 5758 section 3.2).
_SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_SHA2_ECDSA = {
    "secp256r1": bytes.fromhex("300a06082a8648ce3d040302"),
    "secp384r1": bytes.fromhex("300a06082a8648ce3d040303"),
    "secp521r1": bytes.fromhex("300a06082a8648ce3d040304"),
}


def _key_usage(*, signature: bool = False, encipherment: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signature, False, encipherment, False, False, authority, authority, False, False)


_EC_LEAF = _key_usage(signature=True)
_RSA_LEAF = _key_usage(signature=True, encipherment=True)
_AUTHORITY = _key_usage(authority=True)

# Which extensions a certificate has: exactly these.
_OF_A_ROOT = {
    ExtensionOID.KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
_CRITICAL = {ExtensionOID.KEY_USAGE, ExtensionOID.BASIC_CONSTRAINTS}
_CRITICAL_WITHOUT_SUBJECT = _CRITICAL | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME}
_OF_AN_ISSUING_CA = _OF_A_ROOT | {ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
_EXTENSIONS = {
    Purpose.ROOT: _OF_A_ROOT,
    Purpose.ISSUING_CA: _OF_AN_ISSUING_CA,
    Purpose.LEAF: _OF_AN_ISSUING_CA | {ExtensionOID.EXTENDED_KEY_USAGE},
}


@dataclass(frozen=True, slots=True)
class LintedCertificate:
    """A to-be-signed certificate (DER) that the linter found sound. Only `lint` makes one."""

    tbs: bytes
    parent: Parent
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise InternalFault("only the linter makes a LintedCertificate")


def lint(tbs: bytes, spec: CertificateSpec) -> LintedCertificate:
    """Check that `tbs` says what `spec` means and is sound. Raises InternalFault with everything that is wrong."""
    try:
        raw = asn1.decode_der(AnyTbsCertificate, tbs)
        read = x509.load_der_x509_certificate(assemble(tbs, spec.parent, _NO_SIGNATURE))
        findings = [*_header(raw, spec), *_validity(raw, read, spec), *_key(raw, spec), *_extensions(read, spec)]
    except _UNREADABLE as error:
        findings = [f"it cannot be read back: {error}"]
    if findings:
        raise InternalFault(f"no {spec.purpose} certificate was signed for {spec.spiffe_id}: {'; '.join(findings)}")
    return LintedCertificate(tbs, spec.parent, _SEAL)


def _header(raw: AnyTbsCertificate, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.1.2.1 to 4.1.2.4, 4.1.2.6, 4.1.2.8."""
    if raw.version != _V3:
        yield "its version is not 3"
    if raw.serial != spec.serial or not 0 < raw.serial <= _MAX_SERIAL:
        yield "its serial is not the recorded one, or not a positive number of at most 128 bits"
    signing_key = spec.parent.public_key
    algorithm = _SHA256_RSA if isinstance(signing_key, rsa.RSAPublicKey) else _SHA2_ECDSA.get(signing_key.curve.name)
    if asn1.encode_der(raw.algorithm) != algorithm:
        yield "its signature algorithm is not that of the signing key"
    issuer, subject = asn1.encode_der(raw.issuer), asn1.encode_der(raw.subject)
    if issuer != spec.parent.name or issuer == EMPTY_NAME:
        yield "its issuer is not the subject of the signing certificate"
    if subject != spec.subject:
        yield "its subject is not the one meant"
    if spec.purpose is not Purpose.LEAF and subject == EMPTY_NAME:
        yield "it is a CA's and has no subject"
    if (subject == issuer) is not (spec.purpose is Purpose.ROOT):
        yield "subject and issuer must be equal in a root, and differ in all others"
    if raw.issuer_unique_id is not None or raw.subject_unique_id is not None:
        yield "it has a unique identifier"


def _validity(raw: AnyTbsCertificate, read: x509.Certificate, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.1.2.5, and nothing outlives what signed it."""
    not_before, not_after = read.not_valid_before_utc, read.not_valid_after_utc
    if (not_before, not_after) != (spec.validity.not_before, spec.validity.not_after):
        yield "its validity is not the one meant"
    if not_before >= not_after:
        yield "it ends before it begins"
    if not_before < spec.parent.not_before or not_after > spec.parent.not_after:
        yield "it is valid when the signing certificate is not"
    for written, moment in ((raw.validity.not_before, not_before), (raw.validity.not_after, not_after)):
        if isinstance(written, asn1.GeneralizedTime) is not (moment.year >= FIRST_GENERALIZED_YEAR):
            yield "a time is written in the wrong form for its year"


def _key(raw: AnyTbsCertificate, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.1.2.7."""
    if asn1.encode_der(raw.spki) != spec.key.spki:
        yield "its public key is not the one meant"
    if (spec.key.public_key == spec.parent.public_key) is not (spec.purpose is Purpose.ROOT):
        yield "only a root is signed by the key that it is for"


def _extensions(read: x509.Certificate, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2: exactly those of the profile, critical where they must be, each saying what was meant."""
    values, critical = {}, set()
    for extension in read.extensions:
        values[extension.oid] = extension.value
        if extension.critical:
            critical.add(extension.oid)
    if values.keys() != _EXTENSIONS[spec.purpose]:
        yield "its extensions are not those of its profile"
        return
    if critical != (_CRITICAL if spec.subject != EMPTY_NAME else _CRITICAL_WITHOUT_SUBJECT):
        yield "key usage and basic constraints must be critical, names if the subject is empty, and nothing else"
    yield from _key_ids(values, spec)
    yield from _usage(values, spec)
    yield from _names(values[ExtensionOID.SUBJECT_ALTERNATIVE_NAME], spec)


_Values = dict[x509.ObjectIdentifier, x509.ExtensionType]


def _key_ids(values: _Values, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.1 and 4.2.1.2."""
    own, parents = values[ExtensionOID.SUBJECT_KEY_IDENTIFIER], values.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    if not isinstance(own, x509.SubjectKeyIdentifier) or own.digest != keys.key_id(spec.key.spki):
        yield "its subject key identifier is not that of its key"
    if parents is None:
        return  # a root: whose extensions are these was checked before
    if not isinstance(parents, x509.AuthorityKeyIdentifier) or parents.key_identifier != spec.parent.key_id:
        yield "its authority key identifier is not the signing certificate's subject key identifier"
    elif parents.authority_cert_issuer is not None or parents.authority_cert_serial_number is not None:
        yield "its authority key identifier names a certificate, not only a key"


def _usage(values: _Values, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.3, 4.2.1.9, 4.2.1.12; X509-SVID, sections 4.3 and 4.4."""
    leaf = spec.purpose is Purpose.LEAF
    leaf_usage = _RSA_LEAF if keys.is_rsa(spec.key.public_key) else _EC_LEAF
    if values[ExtensionOID.KEY_USAGE] != (leaf_usage if leaf else _AUTHORITY):
        yield "its key usage is not that of its profile"
    constraints = values[ExtensionOID.BASIC_CONSTRAINTS]
    if not isinstance(constraints, x509.BasicConstraints) or constraints.ca is leaf:
        yield "it says that it is a CA and is none, or the other way round"
    elif constraints.path_length != spec.path_length or (leaf and spec.path_length is not None):
        yield "its path length is not the one meant"
    if spec.purpose is Purpose.ISSUING_CA and spec.path_length != 0:
        yield "an issuing CA must have path length 0"
    if leaf and values[ExtensionOID.EXTENDED_KEY_USAGE] != _BOTH_ENDS_OF_TLS:
        yield "its extended key usage is not server and client"


def _names(names: x509.ExtensionType, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.6; X509-SVID, sections 2, 4.1 and 5.2."""
    if not isinstance(names, x509.SubjectAlternativeName):
        yield "its names cannot be read"
        return
    meant = [(x509.UniformResourceIdentifier, spec.spiffe_id.uri)]
    if [(type(name), name.value) for name in names] != meant + [(x509.DNSName, name) for name in spec.dns_names]:
        yield "its names are not the SPIFFE ID meant, then the DNS names meant"
    if not all(_HOST_NAME.fullmatch(name) for name in spec.dns_names):
        yield "a DNS name is not a host name in lower case"
    leaf = spec.purpose is Purpose.LEAF
    if bool(spec.spiffe_id.path) is not leaf or (spec.dns_names and not leaf):
        yield "a leaf's SPIFFE ID has a path; an authority's has none, and an authority has no DNS names"
    try:
        SpiffeId.parse(spec.spiffe_id.uri)
    except BadSpiffeId as error:
        yield error.message
