"""The linter: reads a to-be-signed certificate back and holds it against RFC 5280, X509-SVID and what was meant.

It shares no code with what wrote it: the fields it spells out byte by byte by itself, and the extensions it reads with
cryptography's X.509 parser. What it finds sound becomes a `LintedCertificate`, which nobody else can make and which is
all that a signer accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca import keys
from citadel.ca.profile import EMPTY_NAME, CertificateSpec, Parent, Purpose
from citadel.errors import BadSpiffeId, InternalFault
from citadel.spiffe import SpiffeId

_SEAL = object()
_NO_SIGNATURE = b"\x03\x41" + bytes(65)  # stands where the signature will be; the parser does not look into it
_V3 = b"\xa0\x03\x02\x01\x02"
_KEY_USAGE = bytes.fromhex("0603551d0f 0101ff")  # the extension's OID, critical
_EXTENSIONS_FOLLOW = b"\xa3"  # at once: unique identifiers would stand in between (RFC 5280, 4.1.2.8)
_MAX_SERIAL = 2**128 - 1
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?!(?:.*\.)?[0-9]+\Z){_LABEL}(?:\.{_LABEL})*")  # no address, no wildcard
_BOTH_ENDS_OF_TLS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_UNREADABLE = (ValueError, TypeError, IndexError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

# AlgorithmIdentifiers by the signing key's kind, byte for byte (RFC 4055 section 5, RFC 5758 section 3.2).
_SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_SHA2_ECDSA = {
    "secp256r1": bytes.fromhex("300a06082a8648ce3d040302"),
    "secp384r1": bytes.fromhex("300a06082a8648ce3d040303"),
    "secp521r1": bytes.fromhex("300a06082a8648ce3d040304"),
}


def _key_usage(*, signature: bool = False, encipherment: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signature, False, encipherment, False, False, authority, authority, False, False)


# Key usages, and how each is written: a named bit list has no trailing zero bits in DER (X.690, 11.2.2), which the
# parser does not insist on.
_EC_LEAF = _key_usage(signature=True), bytes.fromhex("0404 03020780")
_RSA_LEAF = _key_usage(signature=True, encipherment=True), bytes.fromhex("0404 030205a0")
_AUTHORITY = _key_usage(authority=True), bytes.fromhex("0404 03020106")

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
    Purpose.CROSS_SIGNED: _OF_AN_ISSUING_CA,
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
        findings = [*_meaning(spec), *_names_meant(spec), *_fields(tbs, spec)] or [*_extensions(tbs, spec)]
    except _UNREADABLE as error:
        findings = [f"it cannot be read back: {error}"]
    if findings:
        raise InternalFault(f"no {spec.purpose} certificate was signed for {spec.spiffe_id}: {'; '.join(findings)}")
    return LintedCertificate(tbs, spec.parent, _SEAL)


def _meaning(spec: CertificateSpec) -> Iterator[str]:
    """What must hold whatever was meant (RFC 5280, 4.1.2.2 to 4.1.2.6, 4.2.1.9)."""
    root, parent, validity = spec.purpose is Purpose.ROOT, spec.parent, spec.validity
    if not 0 < spec.serial <= _MAX_SERIAL:
        yield "its serial is not a positive number of at most 128 bits"
    if parent.name == EMPTY_NAME or (spec.subject == EMPTY_NAME and spec.purpose is not Purpose.LEAF):
        yield "a certificate authority must have a name"
    if (spec.subject == parent.name) is not root or (spec.key.public_key == parent.public_key) is not root:
        yield "a root, and nothing else, bears the name and is for the key that sign it"
    if validity.not_before >= validity.not_after:
        yield "it ends before it begins"
    if validity.not_before < parent.not_before or validity.not_after > parent.not_after:
        yield "it is valid when the signing certificate is not"
    if spec.purpose is Purpose.LEAF and spec.path_length is not None:
        yield "a leaf has no path length"
    if spec.purpose is Purpose.ISSUING_CA and (spec.path_length != 0 or parent.path_length == 0):
        yield "an issuing CA has path length 0, and stands under one with more"
    if spec.purpose is Purpose.CROSS_SIGNED and not _has_room(parent.path_length, spec.path_length):
        yield "a cross-signed CA has a path length below that of the one that signs it"


def _has_room(above: int | None, below: int | None) -> bool:
    return above is None or (below is not None and below < above)


def _names_meant(spec: CertificateSpec) -> Iterator[str]:
    """RFC 1034 section 3.5; X509-SVID, sections 2, 4.1 and 5.2."""
    leaf = spec.purpose is Purpose.LEAF
    if bool(spec.spiffe_id.path) is not leaf or (spec.dns_names and not leaf):
        yield "a leaf's SPIFFE ID has a path; an authority's has none, and an authority has no DNS names"
    if not all(_HOST_NAME.fullmatch(name) for name in spec.dns_names):
        yield "a DNS name is not a host name in lower case"
    try:
        SpiffeId.parse(spec.spiffe_id.uri)
    except BadSpiffeId as error:
        yield error.message


def _fields(tbs: bytes, spec: CertificateSpec) -> Iterator[str]:
    """Everything before the extensions is, byte for byte, what was meant (RFC 5280, 4.1.1.2 to 4.1.2.8)."""
    at = 2 if tbs[1] < 0x80 else 2 + (tbs[1] & 0x7F)  # behind the outer tag and length
    if tbs != _sequence(tbs[at:]):
        yield "it is not one sequence in DER"
        return
    for name, expected in (
        ("version", _V3),
        ("serial", _integer(spec.serial)),
        ("signature algorithm", _algorithm(spec.parent.public_key)),
        ("issuer", spec.parent.name),
        ("validity", _sequence(_time(spec.validity.not_before) + _time(spec.validity.not_after))),
        ("subject", spec.subject),
        ("public key", spec.key.spki),
        ("next field, where extensions should be,", _EXTENSIONS_FOLLOW),
    ):
        if not tbs.startswith(expected, at):
            yield f"its {name} is not the one meant"
            return
        at += len(expected)


def _algorithm(signing_key: keys.PublicKey) -> bytes:
    if isinstance(signing_key, rsa.RSAPublicKey):
        return _SHA256_RSA
    return _SHA2_ECDSA[signing_key.curve.name]


def _sequence(content: bytes) -> bytes:
    """X.690, 8.1.3 and 8.9."""
    length = len(content)
    if length < 0x80:
        return bytes((0x30, length)) + content
    octets = (length.bit_length() + 7) // 8
    return bytes((0x30, 0x80 | octets)) + length.to_bytes(octets) + content


def _integer(number: int) -> bytes:
    """X.690, 8.3: the fewest octets that leave the sign bit clear."""
    octets = number.bit_length() // 8 + 1
    return bytes((0x02, octets)) + number.to_bytes(octets)


def _time(moment: datetime) -> bytes:
    """RFC 5280, 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on; UTC, to the second."""
    if moment.year < 2050:
        return b"\x17\x0d" + moment.strftime("%y%m%d%H%M%SZ").encode()
    return b"\x18\x0f" + moment.strftime("%Y%m%d%H%M%SZ").encode()


def _extensions(tbs: bytes, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2: exactly those of the profile, critical where they must be, each saying what was meant."""
    read = x509.load_der_x509_certificate(_sequence(tbs + _algorithm(spec.parent.public_key) + _NO_SIGNATURE))
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
    yield from _usage(values, tbs, spec)
    yield from _names(values[ExtensionOID.SUBJECT_ALTERNATIVE_NAME], spec)


_Values = dict[x509.ObjectIdentifier, x509.ExtensionType]


def _key_ids(values: _Values, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.1 and 4.2.1.2."""
    own, parents = values[ExtensionOID.SUBJECT_KEY_IDENTIFIER], values.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    # Another's key keeps the identifier that its own certificate gave it: what it signed names that one.
    meant = spec.key.key_id if spec.purpose is Purpose.CROSS_SIGNED else keys.key_id(spec.key.spki)
    if not isinstance(own, x509.SubjectKeyIdentifier) or own.digest != meant:
        yield "its subject key identifier is not that of its key"
    if parents is None:
        return  # a root: which extensions there are was checked before
    if not isinstance(parents, x509.AuthorityKeyIdentifier) or parents.key_identifier != spec.parent.key_id:
        yield "its authority key identifier is not the signing certificate's subject key identifier"
    elif parents.authority_cert_issuer is not None or parents.authority_cert_serial_number is not None:
        yield "its authority key identifier names a certificate, not only a key"


def _usage(values: _Values, tbs: bytes, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.3, 4.2.1.9, 4.2.1.12; X509-SVID, sections 4.3 and 4.4."""
    leaf = spec.purpose is Purpose.LEAF
    leaf_usage = _RSA_LEAF if keys.is_rsa(spec.key.public_key) else _EC_LEAF
    usage, written = leaf_usage if leaf else _AUTHORITY
    if values[ExtensionOID.KEY_USAGE] != usage or _KEY_USAGE + written not in tbs:
        yield "its key usage is not that of its profile"
    constraints = values[ExtensionOID.BASIC_CONSTRAINTS]
    if not isinstance(constraints, x509.BasicConstraints) or constraints.ca is leaf:
        yield "it says that it is a CA and is none, or the other way round"
    elif constraints.path_length != spec.path_length:
        yield "its path length is not the one meant"
    if leaf and values[ExtensionOID.EXTENDED_KEY_USAGE] != _BOTH_ENDS_OF_TLS:
        yield "its extended key usage is not server and client"


def _names(names: x509.ExtensionType, spec: CertificateSpec) -> Iterator[str]:
    """RFC 5280, 4.2.1.6; X509-SVID, section 2: one URI, the SPIFFE ID, and before all other names."""
    meant: list[tuple[type, str]] = [(x509.UniformResourceIdentifier, spec.spiffe_id.uri)]
    meant += [(x509.DNSName, name) for name in spec.dns_names]
    if not isinstance(names, x509.SubjectAlternativeName) or [(type(name), name.value) for name in names] != meant:
        yield "its names are not the SPIFFE ID meant, then the DNS names meant"
