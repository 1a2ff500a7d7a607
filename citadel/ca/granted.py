"""Checks a leaf that somebody else made: it says what was meant, and nothing that was not (X509-SVID; RFC 5280, 4.2).

Where we sign, the linter sees what is to be signed before it is. Here it can only be looked at afterwards, so that what
is wrong is never handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca import keys
from citadel.ca.profile import EMPTY_NAME, CertificateSpec
from citadel.errors import InternalFault

# What cryptography raises for what it cannot read.
_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_MAX_SERIAL = 2**160 - 1  # RFC 5280, 4.1.2.2: 20 octets
_OF_THE_PROFILE = {
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
#: They say where to look the issuer or a revocation up, and give no right.
_HARMLESS = {ExtensionOID.AUTHORITY_INFORMATION_ACCESS, ExtensionOID.CRL_DISTRIBUTION_POINTS}
_BOTH_ENDS_OF_TLS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def leaf_faults(made: x509.Certificate, spec: CertificateSpec, now: datetime, *, skew: timedelta) -> list[str]:
    """What of `made` is not as `spec` means it, as sentences. Its serial may be any, its life shorter; `skew`: by how
    much the clock of whoever made it may be ahead."""
    try:
        return [
            *_signature(made, spec),
            *_fields(made, spec),
            *_validity(made, spec, now, skew),
            *_extensions(made, spec),
        ]
    except _UNREADABLE as error:
        return [f"it cannot be read: {' '.join(str(error).split())[:200]}"]


def _signature(made: x509.Certificate, spec: CertificateSpec) -> Iterator[str]:
    """Of the parent's one algorithm (keys.signature_algorithm), and no other: as everything that we sign."""
    key = spec.parent.public_key
    if made.signature_algorithm_oid != keys.signature_algorithm(key).oid:
        yield f"it is signed with {made.signature_algorithm_oid.dotted_string}"
        return
    try:
        keys.verify(key, made.signature, made.tbs_certificate_bytes)
    except InternalFault:
        yield "it is not signed by the issuing CA that was asked"


def _fields(made: x509.Certificate, spec: CertificateSpec) -> Iterator[str]:
    if made.version is not x509.Version.v3:
        yield "it is not of version 3"
    if not 0 < made.serial_number <= _MAX_SERIAL:
        yield "its serial is not a positive number of at most 160 bits"
    if made.issuer.public_bytes() != spec.parent.name:
        yield f"its issuer is {made.issuer.rfc4514_string()}"
    if made.subject.public_bytes() != spec.subject:
        yield f"its subject is {made.subject.rfc4514_string() or 'empty'}, not the one meant"
    if made.public_key() != spec.key.public_key:
        yield "it is for another key"


def _validity(made: x509.Certificate, spec: CertificateSpec, now: datetime, skew: timedelta) -> Iterator[str]:
    """That it begins before its issuing CA does no harm: both must be valid when it is verified."""
    begins, ends = made.not_valid_before_utc, made.not_valid_after_utc
    if begins > now + skew:
        yield f"it is not valid before {begins.isoformat()}; check the clocks, ours and that of whoever made it"
    if ends <= now:
        yield f"it has expired at {ends.isoformat()}"
    if ends > min(spec.validity.not_after + skew, spec.parent.not_after):
        yield f"it ends at {ends.isoformat()}, later than was asked for"


def _extensions(made: x509.Certificate, spec: CertificateSpec) -> Iterator[str]:
    found = {one.oid: one for one in made.extensions}
    if missing := _OF_THE_PROFILE - {ExtensionOID.BASIC_CONSTRAINTS} - found.keys():
        yield f"it lacks {_listed(missing)}"
        return
    if beyond := found.keys() - _OF_THE_PROFILE - _HARMLESS:
        yield f"it has {_listed(beyond)}"
    if any(found[oid].critical for oid in found.keys() & _HARMLESS):
        yield "an extension is critical that must not be"
    yield from _names(found[ExtensionOID.SUBJECT_ALTERNATIVE_NAME], spec)
    yield from _usage(found, spec)
    above = found[ExtensionOID.AUTHORITY_KEY_IDENTIFIER].value
    if not isinstance(above, x509.AuthorityKeyIdentifier) or above.key_identifier != spec.parent.key_id:
        yield "its authority key identifier is not that of its issuing CA"


def _names(extension: x509.Extension[x509.ExtensionType], spec: CertificateSpec) -> Iterator[str]:
    """One URI, the SPIFFE ID; the DNS names meant; nothing else. In any order: whoever makes it has its own."""
    names = extension.value
    assert isinstance(names, x509.SubjectAlternativeName)
    meant = {(x509.UniformResourceIdentifier, spec.spiffe_id.uri), *((x509.DNSName, one) for one in spec.dns_names)}
    has = [(type(one), one.value) for one in names]
    if len(has) != len(meant) or set(has) != meant:
        shown = ", ".join(str(value) for _, value in has[:8])
        yield f"its names are {shown[:300] or 'none'}; meant was {spec.spiffe_id}, and the DNS names of its entry"
    if spec.subject == EMPTY_NAME and not extension.critical:
        yield "its subject is empty, and its names are not critical"


def _usage(
    found: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]], spec: CertificateSpec
) -> Iterator[str]:
    usage = found[ExtensionOID.KEY_USAGE].value
    assert isinstance(usage, x509.KeyUsage)
    encipherment = usage.key_encipherment and not keys.is_rsa(spec.key.public_key)
    beyond = (
        usage.content_commitment,
        usage.data_encipherment,
        usage.key_agreement,
        usage.key_cert_sign,
        usage.crl_sign,
    )
    if not usage.digital_signature or encipherment or any(beyond):
        yield "its key usage is not that of a workload"
    uses = found[ExtensionOID.EXTENDED_KEY_USAGE].value
    assert isinstance(uses, x509.ExtendedKeyUsage)
    if set(uses) != _BOTH_ENDS_OF_TLS:
        yield "its extended key usage is not server and client"
    constraints = found.get(ExtensionOID.BASIC_CONSTRAINTS)
    if constraints is not None and (not isinstance(constraints.value, x509.BasicConstraints) or constraints.value.ca):
        yield "it is a certificate authority"


def _listed(oids: set[x509.ObjectIdentifier]) -> str:
    return "the extension " + ", ".join(sorted(oid.dotted_string for oid in oids))
