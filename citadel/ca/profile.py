"""Profiles: what a root, an issuing CA and a leaf certificate are to say (RFC 5280, SPIFFE X509-SVID).

A profile makes a `CertificateSpec`, a value that means a certificate without being one. `tbs.encode` writes it,
`lint.lint` checks what was written against it, and only then a signer gets to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from citadel.ca import der, keys
from citadel.errors import InternalFault, InvalidInput, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain

#: Random bytes, as `secrets.token_bytes` gives them.
Entropy = Callable[[int], bytes]

SERIAL_BYTES = 16
EMPTY_NAME = x509.Name([]).public_bytes()
_COMMON_NAME_LENGTH = 64  # RFC 5280 appendix A.1, ub-common-name-length


class Purpose(StrEnum):
    ROOT = "root"
    ISSUING_CA = "issuing CA"
    CROSS_SIGNED = "cross-signed CA"
    LEAF = "leaf"


@dataclass(frozen=True, slots=True)
class Parent:
    """What a certificate takes over from the one that signs it. For a root that is itself.

    `name` is the DER of its subject, byte for byte (RFC 5280, 4.1.2.4); `key_id` its subject key identifier. What is
    the same in all that it signs is encoded once: `issuer`, `algorithm`, `key_id_extension`.
    """

    name: bytes
    key_id: bytes
    public_key: keys.PublicKey
    not_before: datetime
    not_after: datetime
    path_length: int | None
    issuer: asn1.TLV = field(init=False, repr=False, compare=False)
    algorithm: der.AlgorithmIdentifier = field(init=False, repr=False, compare=False)
    key_id_extension: der.Extension = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        algorithm = keys.signature_algorithm(self.public_key)
        parameters = asn1.Null() if algorithm.null_parameters else None
        key_id = x509.AuthorityKeyIdentifier(self.key_id, None, None)
        object.__setattr__(self, "issuer", der.tlv(self.name))
        object.__setattr__(self, "algorithm", der.AlgorithmIdentifier(oid=algorithm.oid, parameters=parameters))
        object.__setattr__(self, "key_id_extension", der.extension(key_id, critical=False))

    @classmethod
    def of(cls, certificate: bytes) -> Parent:
        """Read it from the signing certificate (DER). Raises InvalidInput if that cannot sign certificates."""
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
            key = parsed.public_key()
        except (ValueError, x509.ExtensionNotFound) as error:
            raise InvalidInput(f"this certificate cannot sign others: {error}") from error
        if not constraints.ca or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise InvalidInput("this certificate cannot sign others: it is no CA, or its key is neither EC nor RSA")
        try:
            key_id = parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:  # plugged-in CAs of old; then RFC 5280's method 1 is what others compute too
            key_id = bytes.fromhex(keys.skid(key).hex)
        return cls(
            name=der.subject_of(certificate),
            key_id=key_id,
            public_key=key,
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            path_length=constraints.path_length,
        )


@dataclass(frozen=True, slots=True)
class Validity:
    """From the first second to the last, both included (RFC 5280, 4.1.2.5); UTC, whole seconds."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def starting(cls, now: datetime, lifetime: timedelta, *, backdate: timedelta) -> Validity:
        """`lifetime` from `now`, and valid since `backdate` before it, for machines whose clocks lag."""
        return cls((now - backdate).replace(microsecond=0), (now + lifetime).replace(microsecond=0))

    def within(self, parent: Parent, now: datetime, *, shortest: timedelta) -> Validity:
        """The part of it in which `parent` is valid too.

        Raises Unavailable if that is over or not yet begun, or leaves less than `shortest` from `now`.
        """
        if now < parent.not_before:
            raise Unavailable(
                f"it is {now.isoformat()}, and the signing certificate is not valid before "
                f"{parent.not_before.isoformat()}",
                mend="check this machine's clock",
            )
        clamped = Validity(max(self.not_before, parent.not_before), min(self.not_after, parent.not_after))
        if clamped.not_after - now < min(shortest, self.not_after - now):
            raise Unavailable(
                f"the signing certificate ends at {parent.not_after.isoformat()}, which leaves less than {shortest} "
                "for what it signs",
                mend="renew the issuing CA",
            )
        return clamped


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """What one certificate is to say. Made by `leaf`, `issuing_ca`, `root` and `cross_signed` only.

    `subject` is the DER of a Name. `dns_names` are in order, after the URI.
    """

    purpose: Purpose
    parent: Parent
    serial: int
    validity: Validity
    subject: bytes
    key: keys.SubjectKey
    spiffe_id: SpiffeId
    dns_names: tuple[str, ...] = ()
    path_length: int | None = None


def serial(entropy: Entropy) -> int:
    """128 random bits, never zero (RFC 5280, 4.1.2.2: positive, at most 20 octets)."""
    for _ in range(4):
        if number := int.from_bytes(entropy(SERIAL_BYTES)):
            return number
    raise InternalFault("the source of randomness gives zeros")


def leaf(
    *,
    parent: Parent,
    key: keys.SubjectKey,
    spiffe_id: SpiffeId,
    validity: Validity,
    serial: int,
    dns_names: tuple[str, ...] = (),
    subject: bytes = EMPTY_NAME,
) -> CertificateSpec:
    """An X.509-SVID for a workload. Raises InvalidInput for an ID without a path (X509-SVID, section 5.2)."""
    if not spiffe_id.path:
        raise InvalidInput(f"{spiffe_id} names a trust domain; a workload's SPIFFE ID has a path")
    return CertificateSpec(
        purpose=Purpose.LEAF,
        parent=parent,
        serial=serial,
        validity=validity,
        subject=subject,
        key=key,
        spiffe_id=spiffe_id,
        dns_names=dns_names,
    )


def issuing_ca(
    *, parent: Parent, public_key: keys.PublicKey, trust_domain: TrustDomain, validity: Validity, serial: int
) -> CertificateSpec:
    """An issuing CA under a root (or under an intermediate): path length 0, named for its trust domain and key.

    Raises InvalidInput if `parent` may not have a CA below it.
    """
    if parent.path_length == 0:
        raise InvalidInput("the signing certificate has path length 0: it may sign leaves only, no issuing CA")
    return _authority(
        Purpose.ISSUING_CA, parent, keys.SubjectKey.of(public_key), trust_domain, validity, serial, path_length=0
    )


def root(
    *,
    public_key: keys.PublicKey,
    trust_domain: TrustDomain,
    validity: Validity,
    serial: int,
    path_length: int | None = None,
) -> CertificateSpec:
    """A self-signed root with a name of its own, so that nobody can mistake one root of ours for another.

    `path_length` counts the CAs that may follow below it: 1 is one issuing CA, None any number. Without one it can
    certify its successor, and limits nobody who has its key. Raises InvalidInput for a root that could sign no issuing
    CA.
    """
    if path_length is not None and path_length < 1:
        raise InvalidInput(f"a root with path length {path_length} could sign no issuing CA; it must be 1 or more")
    key = keys.SubjectKey.of(public_key)
    itself = Parent(
        _authority_name(Purpose.ROOT, trust_domain, key),
        key.key_id,
        public_key,
        validity.not_before,
        validity.not_after,
        path_length,
    )
    return _authority(Purpose.ROOT, itself, key, trust_domain, validity, serial, path_length=path_length)


def cross_signed(
    *, parent: Parent, certificate: bytes, trust_domain: TrustDomain, validity: Validity, serial: int
) -> CertificateSpec:
    """A further certificate for the key of an authority, signed by another one: whoever trusts only that one's root
    then verifies what the key signs. Name and key identifier are those of `certificate` (DER), the authority's own, so
    that what it signed fits under either.

    Raises InvalidInput if `parent`'s path length leaves no room for it and the CAs under it.
    """
    own = Parent.of(certificate)
    room = None if parent.path_length is None else parent.path_length - 1
    needed = 0 if own.path_length == 0 else 1  # a CA that may have others under it has some
    if room is not None and room < needed:
        raise InvalidInput(
            f"the signing certificate has path length {parent.path_length}; "
            f"to cross-sign this one it needs {needed + 1}"
        )
    lengths = [length for length in (own.path_length, room) if length is not None]
    return CertificateSpec(
        purpose=Purpose.CROSS_SIGNED,
        parent=parent,
        serial=serial,
        validity=validity,
        subject=own.name,
        key=keys.SubjectKey(own.public_key, keys.spki(own.public_key), own.key_id),
        spiffe_id=trust_domain.id,
        path_length=min(lengths, default=None),
    )


def _authority(
    purpose: Purpose,
    parent: Parent,
    key: keys.SubjectKey,
    trust_domain: TrustDomain,
    validity: Validity,
    serial: int,
    *,
    path_length: int | None,
) -> CertificateSpec:
    return CertificateSpec(
        purpose=purpose,
        parent=parent,
        serial=serial,
        validity=validity,
        subject=_authority_name(purpose, trust_domain, key),
        key=key,
        spiffe_id=trust_domain.id,  # X509-SVID, section 4.2: a signing certificate's ID has no path
        path_length=path_length,
    )


def _authority_name(purpose: Purpose, trust_domain: TrustDomain, key: keys.SubjectKey) -> bytes:
    """`CN=example.org issuing CA 0a1b2c3d`: the trust domain (cut if need be), what it is, the SKID's first digits."""
    return name_of_authority(purpose, trust_domain, key).public_bytes()


def name_of_authority(purpose: Purpose, trust_domain: TrustDomain, key: keys.SubjectKey) -> x509.Name:
    """As `_authority_name`, before it is encoded."""
    rest = f" {purpose} {key.key_id[:4].hex()}"
    room = _COMMON_NAME_LENGTH - len(rest)
    name = trust_domain.name if len(trust_domain.name) <= room else trust_domain.name[: room - 2] + ".."
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name + rest)])
