"""Authorities as values: a key (SKID) with its certificates, its state, and what it has signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from citadel.spiffe import SpiffeId, TrustDomain


class AuthorityKind(StrEnum):
    ROOT = "root"
    ISSUING = "issuing"


class AuthorityState(StrEnum):
    """Where an authority stands in its life (shared spec: rotation). Of a kind, exactly one is ACTIVE: it signs."""

    PREPARED = "prepared"  # made and durable; a root of ours in this state is not yet in the bundle
    DISTRIBUTING = "distributing"  # a root: in the bundle, not yet signing
    ACTIVE = "active"
    RETIRING = "retiring"  # signs nothing more; still in the bundle, since leaves chain to it
    REMOVED = "removed"
    ABANDONED = "abandoned"
    TAINTED = "tainted"
    REVOKED = "revoked"


#: Roots in these states are in the trust bundle.
IN_BUNDLE = frozenset(
    {AuthorityState.DISTRIBUTING, AuthorityState.ACTIVE, AuthorityState.RETIRING, AuthorityState.TAINTED}
)


#: The note of a root that was made, or plugged in, because there was none, and is not in force yet.
MADE_FIRST = "the first root, not in force yet"


@dataclass(frozen=True, slots=True, order=True)
class Skid:
    """A subject key identifier: SHA-1 of the public key's bit string (RFC 5280, 4.2.1.2, method 1), or what a
    plugged-in certificate says. Written as lower-case hex without colons."""

    hex: str

    def __str__(self) -> str:
        return self.hex


@dataclass(frozen=True, slots=True)
class AuthorityCertificate:
    """One certificate of an authority's key. `issuer_skid` is the authority's own for a self-signed one, and may be
    of an authority that we do not hold (`None` if the certificate does not say)."""

    der: bytes
    fingerprint: str  # SHA-256 of `der`, lower-case hex
    subject: str  # RFC 4514
    serial: int
    not_before: datetime
    not_after: datetime
    issuer_skid: Skid | None


class KeySource(StrEnum):
    """Where an authority's private key is."""

    SEALED = "sealed"  # in the store, encrypted under the key-encryption key
    FILES = "files"  # from the user's own files (cacerts); a sealed copy outlasts a change of those files
    VAULT = "vault"  # somewhere that signs for us
    NONE = "none"  # not with us (a root whose issuing CA was plugged in)


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that signs, or did, or will. `certificates` is newest first and never empty.

    `chain` (issuing only) are the intermediates between the newest certificate and its root, in order, without
    the root: what follows the authority's own certificate in a served chain. `key_ref` says where the key is, if it is
    somewhere that signs for us: as whoever keeps it writes it.
    """

    skid: Skid
    kind: AuthorityKind
    state: AuthorityState
    trust_domain: TrustDomain
    key_source: KeySource
    certificates: tuple[AuthorityCertificate, ...]
    root_skid: Skid  # the root that it chains to; its own for a root
    created_at: datetime
    changed_at: datetime  # when it entered `state`
    chain: tuple[bytes, ...] = ()
    note: str = ""  # what it waits for, in words, for `status`
    key_ref: str = ""

    @property
    def own(self) -> tuple[AuthorityCertificate, ...]:
        """Of a root, the certificates that it signed itself, newest first: trust begins with them, not with those that
        another root signed for its key. Of an issuing CA, all."""
        if self.kind is AuthorityKind.ISSUING:
            return self.certificates
        return tuple(c for c in self.certificates if c.issuer_skid in (None, self.skid)) or self.certificates

    @property
    def certificate(self) -> AuthorityCertificate:
        """The newest of its own."""
        return self.own[0]


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A private key at rest: PKCS#8 DER under AES-256-GCM; `kek_id` names the key-encryption key that opens it."""

    skid: Skid
    kek_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The X.509 authorities of a trust domain (SPIFFE_Trust_Domain_and_Bundle.md), with CRLs if there are any.

    `roots` are DER, sorted by fingerprint, and never empty. `sequence` grows by one with each change of content.
    `tainted` holds SHA-256 fingerprints of roots that must not be built upon any more.
    """

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]
    sequence: int
    refresh_hint: int  # seconds
    crls: tuple[bytes, ...] = ()  # PEM
    tainted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IssuanceIntent:
    """What will be signed: durable before the signature exists."""

    serial: int
    spiffe_id: SpiffeId
    entry_id: str
    authority: Skid
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...]
    key_fingerprint: str  # SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hex
    requester: str  # as AuditEvent.actor
    at: datetime


class Outcome(StrEnum):
    ISSUED = "issued"
    FAILED = "failed"  # nothing was signed, or what was signed was never handed out
    UNKNOWN = "unknown"  # we died in between: it may exist, so it counts as live until not_after


@dataclass(frozen=True, slots=True)
class IssuanceOutcome:
    serial: int
    outcome: Outcome
    fingerprint: str = ""  # SHA-256 of the certificate's DER, when issued
    detail: str = ""


@dataclass(frozen=True, slots=True)
class IssuanceRecord:
    """A row of the issuance log. `outcome` None: not settled yet."""

    intent: IssuanceIntent
    outcome: Outcome | None
    fingerprint: str
    detail: str


@dataclass(frozen=True, slots=True)
class IssuedSvid:
    """An X.509-SVID as it goes to its workload: DER, leaf first, then the intermediates, never the root."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    serial: int
    not_before: datetime
    not_after: datetime
    authority: Skid
