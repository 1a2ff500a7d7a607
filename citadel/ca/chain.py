"""Checks the certificates of a plugged-in CA: which way leads to a root, and whether each may stand where it stands
(RFC 5280, section 6; X509-SVID, section 4).

Stricter than the RFC where a relying party could see it otherwise than we do: what would make an Envoy refuse the
leaves is better refused here, with a sentence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from citadel.ca.certificates import authority_key_id, name_of, skid_of
from citadel.ca.strength import KeyPolicy, weakness
from citadel.errors import BadSpiffeId
from citadel.spiffe import SCHEME, SpiffeId, TrustDomain

_MAX_BETWEEN = 8
_KEYS = KeyPolicy(curves=frozenset({"secp256r1", "secp384r1", "secp521r1"}), rsa_bits=(2048, 8192))
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_SHA1 = hashes.SHA1()  # noqa: S303  # tells who signed; nothing is trusted for it
_SOON = timedelta(days=30)
# Critical extensions that every relying party knows, and that leave our leaves valid.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.NAME_CONSTRAINTS,  # refused with a sentence of its own
    }
)


def order_chain(
    certificate: x509.Certificate, pool: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], x509.Certificate] | None:
    """From `certificate` up to one of `roots`, by names and signatures: the intermediates between them, and the root.

    The shortest way, in whatever order `pool` is; None if no way leads to a root. A root in `pool` is not trusted for
    being there.
    """
    ways: deque[list[x509.Certificate]] = deque([[certificate]])
    seen = {certificate}
    while ways:
        way = ways.popleft()
        for root in roots:
            if signed_by(way[-1], root):
                return way[1:], root
        if len(way) > _MAX_BETWEEN:
            continue
        for above in pool:
            if above not in seen and signed_by(way[-1], above):
                seen.add(above)
                ways.append([*way, above])
    return None


def dead_end(certificate: x509.Certificate, pool: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> str:
    """Where the way from `certificate` to a root ends before it reaches one, as a sentence."""
    seen = [certificate]
    while above := next((c for c in pool if c not in seen and signed_by(seen[-1], c)), None):
        seen.append(above)
    last = seen[-1]
    wanted = last.issuer.rfc4514_string()
    if last.issuer == last.subject:
        return f"{name_of(last)} signed itself, and is not in root-cert.pem"
    if any(c.subject == last.issuer for c in (*pool, *roots)):
        return f"{name_of(last)} names {wanted} as its issuer, but the certificate of that name did not sign it"
    return f"{name_of(last)} is signed by {wanted}, which is neither in cert-chain.pem nor in root-cert.pem"


def signed_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Whether the names fit and the signature verifies, however weak it is: what is too weak, `ca_faults` says."""
    try:
        if isinstance(_signature_hash(child), hashes.SHA1):
            return child.issuer == parent.subject and _sha1_verifies(child, parent)
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _sha1_verifies(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """As `verify_directly_issued_by`, which takes no SHA-1; old roots signed themselves so. Raises InvalidSignature."""
    key, signature, signed = parent.public_key(), child.signature, child.tbs_certificate_bytes
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), _SHA1)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(_SHA1))
    else:
        return False
    return True


def ca_faults(certificate: x509.Certificate, *, below: int, trust_domain: TrustDomain, now: datetime) -> list[str]:
    """What keeps `certificate` from being a CA with `below` CAs under it, as sentences; empty: nothing."""
    return [
        *_shape(certificate),
        *_constraints(certificate, below),
        *_usage(certificate),
        *_validity(certificate, now),
        *_names(certificate, trust_domain),
    ]


def root_faults(certificate: x509.Certificate) -> list[str]:
    """What keeps it from being a root, besides what keeps it from being a CA."""
    if signed_by(certificate, certificate):
        return []
    return ["it is no root: it did not sign itself"]


def link_faults(child: x509.Certificate, parent: x509.Certificate) -> list[str]:
    """What makes a relying party pass `parent` by when it looks for the issuer of `child` (RFC 5280, 4.2.1.1)."""
    named = authority_key_id(child)
    if named is None or named == skid_of(parent) or not _has(parent, x509.SubjectKeyIdentifier):
        return []
    return [f"its authority key identifier {named} is not the subject key identifier of {name_of(parent)}"]


def ends_soon(certificate: x509.Certificate, now: datetime) -> str:
    """A warning that it expires soon; empty if it does not."""
    end = certificate.not_valid_after_utc
    life = end - certificate.not_valid_before_utc
    if end - now > min(_SOON, life / 4):
        return ""
    return f"{name_of(certificate)} expires at {end.isoformat()}"


def _shape(certificate: x509.Certificate) -> Iterator[str]:
    if certificate.version is not x509.Version.v3:
        yield "it is not an X.509 certificate of version 3"
    if not certificate.subject.rdns:
        yield "it has no subject"
    if weak := weakness(certificate.public_key(), _KEYS):
        yield f"its key {weak}"
    # A root's own signature is checked by nobody.
    if certificate.subject != certificate.issuer:
        algorithm = _signature_hash(certificate)
        if not isinstance(algorithm, _HASHES):
            used = algorithm.name if algorithm else "an algorithm"
            yield f"it is signed with {used} that Envoy does not take; expected SHA-256"
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            yield f"it has the critical extension {extension.oid.dotted_string}, which not all who read it understand"


def _signature_hash(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    try:
        return certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None


def _constraints(certificate: x509.Certificate, below: int) -> Iterator[str]:
    """RFC 5280, 4.2.1.9 and 4.2.1.10."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        yield "it is no CA certificate: it has no basic constraints; expected CA:TRUE"
        return
    if not constraints.ca:
        yield "it is no CA certificate: its basic constraints say CA:FALSE; expected CA:TRUE"
    elif constraints.path_length is not None and constraints.path_length < below:
        yield f"its path length {constraints.path_length} allows fewer than the {below} CAs under it"
    if _has(certificate, x509.NameConstraints):
        yield "it has name constraints, which Citadel does not follow when it issues; use a CA without them"


def _usage(certificate: x509.Certificate) -> Iterator[str]:
    """RFC 5280, 4.2.1.3 and 4.2.1.12: without the extension every use is allowed. OpenSSL, BoringSSL and Go take a CA's
    extended key usage for a limit of what is below it."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            yield "its key usage does not allow signing certificates; expected keyCertSign"
    except x509.ExtensionNotFound:
        pass
    try:
        uses = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses and not both <= uses:
        yield "its extended key usage does not allow both TLS servers and TLS clients"


def _validity(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    if now < certificate.not_valid_before_utc:
        yield f"it is not valid before {certificate.not_valid_before_utc.isoformat()}; check the clock"
    if now > certificate.not_valid_after_utc:
        yield f"it expired at {certificate.not_valid_after_utc.isoformat()}; renew it"


def _names(certificate: x509.Certificate, trust_domain: TrustDomain) -> Iterator[str]:
    """X509-SVID, section 4.2: a signing certificate's SPIFFE ID, if it has one, is that of our trust domain."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if not uri.lower().startswith(SCHEME):
            continue
        try:
            named = SpiffeId.parse(uri)
        except BadSpiffeId as error:
            yield error.message
            continue
        if named.trust_domain != trust_domain:
            yield f"it names {named}, not our trust domain {trust_domain}"
        elif named.path:
            yield f"it names {named}; the SPIFFE ID of a CA has no path"


def _has(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return any(isinstance(extension.value, kind) for extension in certificate.extensions)
