"""What the certificate authority needs from the world. Each comment is a contract; tests/contract checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.audit import AuditEvent
from citadel.ca.keys import KeyType
from citadel.ca.model import (
    Authority,
    AuthorityCertificate,
    AuthorityState,
    IssuanceIntent,
    IssuanceOutcome,
    IssuanceRecord,
    KeySource,
    SealedKey,
    Skid,
    TrustBundle,
)
from citadel.spiffe import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from citadel.ca.lint import LintedCertificate
    from citadel.ca.profile import CertificateSpec

_EVER, _FOR_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Signer(Protocol):
    """Holds one private key, here or elsewhere, and signs certificates with it.

    Implementations: signers.software (this process), vault.transit_signer. Contract: tests/contract/test_signer.py.
    """

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey: ...

    @property
    def remote(self) -> bool:
        """True if the signature is made elsewhere: then the issuer verifies each one, else a sample."""

    async def sign(self, certificate: LintedCertificate) -> bytes:
        """The signature bits (for ECDSA: DER, RFC 3279 2.2.3) over `certificate.tbs`.

        Takes only what the linter made, so nothing unlinted can be signed. Safe to call from many tasks at once.
        Raises Unavailable if the key cannot be used now, whoever has to mend that; InternalFault if what comes back is
        no signature.
        """


@runtime_checkable
class Certifier(Protocol):
    """Makes whole leaves under one issuing CA that is elsewhere, and there has its own mind about serial numbers.

    Implementation: vault.leaf_issuer. Contract: tests/contract/test_certifier.py.
    """

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey: ...

    async def certify(self, spec: CertificateSpec, csr: bytes) -> bytes:
        """A certificate (DER) of what `spec` means but for its serial number, for the key of `csr` (DER or PEM).

        What came back was verified: names, key, usage, validity no longer than meant, signature. Not asked for twice.
        Raises Unavailable if it cannot be had now, whoever has to mend that (AnswerLost: it may have been made);
        InternalFault if what came back is something else.
        """


#: What signs for an issuing CA: a key, or somebody who makes the whole certificate.
LeafSigner = Signer | Certifier


@dataclass(frozen=True, slots=True)
class IssuingKey:
    """A new key for an issuing CA, durable where it is kept, but for `sealed`: that is stored with its authority.

    `private` signs the request for its certificate; if `source` is elsewhere, it has nothing of the key but that.
    """

    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)
    source: KeySource
    reference: str = ""
    sealed: SealedKey | None = None


class BroughtIssuingCa(Protocol):
    """An issuing CA that is elsewhere, key and all, and is used as it is. Implementation: vault.leaf_issuer."""

    async def load(self, root: Authority, state: AuthorityState) -> Authority:
        """It, verified whole up to `root`, in `state`; not written down. Raises Unavailable; FailedPrecondition if it
        is not fit, or chains to another root."""


class IssuingKeys(Protocol):
    """Where the keys of issuing CAs are made and used. Implementations: signers.sealed (our store), signers.places
    (several), vault.transit_signer. Contract: tests/contract/test_issuing_keys.py."""

    @property
    def source(self) -> KeySource:
        """Where new ones are."""

    async def make(self, kind: KeyType) -> IssuingKey:
        """A new key, never used before. Raises Unavailable; FailedPrecondition if it could leave where it is kept."""

    async def signer(self, authority: Authority) -> LeafSigner:
        """What signs with the key of `authority`. One that is elsewhere need not be reachable for it.

        Raises Unavailable, NotFound, FailedPrecondition, InternalFault if the key is not here, or not that one.
        """


@dataclass(frozen=True, slots=True)
class SigningAuthority:
    """Who signs leaves now, with the means to do it: an issuing CA, or a plugged-in root that does so itself.

    What it signs verifies from `begins` to `ends`: while it, and every CA above it, is valid.
    """

    authority: Authority
    signer: LeafSigner
    begins: datetime = _EVER
    ends: datetime = _FOR_EVER

    @property
    def elsewhere(self) -> bool:
        """Whether each signature is made elsewhere, so that nothing is signed while that is away."""
        return isinstance(self.signer, Certifier) or self.signer.remote


class SigningAuthorities(Protocol):
    """Who signs leaves now. Implementation: authorities.Authorities."""

    def current(self) -> SigningAuthority:
        """The one ACTIVE issuing CA, or the ACTIVE root if it was plugged in to sign leaves itself. The same object
        until it changes. Raises Unavailable, saying why, when nothing may sign (none yet, expired, its key cannot be
        opened)."""


class KeyEncryptionKey(Protocol):
    """Encrypts private keys at rest (envelope: the caller's bytes are small). Implementation: kek.LocalKek, from a 0600
    file (kek.file_kek) or a credential of systemd (kek.credential_kek); kek_ring.KekRing.
    Contract: tests/contract/test_kek.py.
    """

    @property
    def id(self) -> str:
        """Names the key without revealing it; stored beside each ciphertext."""

    def holds(self, kek_id: str) -> bool:
        """Whether it opens what was sealed under the key of that name."""

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt and authenticate `plaintext`, bound to `context`. Fresh nonce each time."""

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        """The inverse. Raises FailedPrecondition if the key, the context or the ciphertext is not the one sealed."""


class AuthorityStore(Protocol):
    """Where authorities, their keys and the bundle are written down. Implementation: store.authorities (SQLite,
    PostgreSQL). Contract: tests/contract/test_authority_store.py.

    Every mutating call is one transaction together with its audit record: all of it or nothing; it returns only when
    it would survive the loss of power. All calls are safe from many tasks and many servers at once.
    """

    async def authorities(self) -> list[Authority]:
        """All of them, in every state, oldest first."""

    async def add(
        self, authority: Authority, key: SealedKey | None, audit: AuditEvent, *, retire: Skid | None = None
    ) -> None:
        """Write a new authority with its key. If it is ACTIVE, `retire` names the active one of its kind that becomes
        RETIRING in the same transaction. Raises AlreadyExists if the SKID is known, Aborted if there would be two
        active ones of a kind, or if `retire` is not active any more.
        """

    async def add_certificate(
        self,
        skid: Skid,
        certificate: AuthorityCertificate,
        chain: Sequence[bytes],
        audit: AuditEvent,
        *,
        root: Skid | None = None,
        key_ref: str | None = None,
    ) -> None:
        """A further certificate of the same key becomes the newest (a renewal). `root` names the root that it chains
        to, `key_ref` says where the key is, if either is another than before. Raises NotFound, AlreadyExists."""

    async def transition(
        self,
        skid: Skid,
        expected: AuthorityState,
        to: AuthorityState,
        audit: AuditEvent,
        *,
        note: str = "",
        retire: Skid | None = None,
    ) -> None:
        """Move one authority to another state. If `to` is ACTIVE, `retire` names the active one of its kind that
        becomes RETIRING in the same transaction. Raises NotFound; Aborted if it is not in `expected`, if there would be
        two active ones of a kind, or if `retire` is not active any more."""

    async def needed_no_more(self, before: datetime) -> list[Skid]:
        """Issuing CAs that were removed or abandoned before then, and of which the issuance log has no record."""

    async def forget(self, skid: Skid, audit: AuditEvent) -> None:
        """Delete one of these, with its certificates and its key. Raises NotFound if it is none of them (any more)."""

    async def sealed_key(self, skid: Skid) -> SealedKey:
        """Raises NotFound."""

    async def replace_sealed_key(self, key: SealedKey, audit: AuditEvent) -> None:
        """The same key under another key-encryption key. Raises NotFound."""

    async def give_key(self, key: SealedKey, source: KeySource, audit: AuditEvent) -> None:
        """The private key of an authority that was known without it, or by another source. Raises NotFound."""

    async def bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The bundle that was put last."""

    async def put_bundle(self, bundle: TrustBundle, audit: AuditEvent) -> None:
        """Replace the bundle. Raises Aborted unless `bundle.sequence` is one more than the stored one (1 for the
        first), and InvalidInput if it has no root."""

    async def bundles(self) -> list[TrustBundle]:
        """All bundles that we hold, our own and federated ones."""

    async def live_leaves(self, at: datetime) -> dict[Skid, int]:
        """How many leaves that were not recorded as failed are unexpired at `at`, by issuing authority."""


class FederationStore(Protocol):
    """Where the bundles of foreign trust domains are written down, beside our own (AuthorityStore reads them all).
    Implementation: store.federation. Contract: tests/contract/test_federation_store.py.

    Each call is one transaction together with its audit record, announced afterwards.
    """

    async def put_federated(self, bundle: TrustBundle, audit: AuditEvent, *, present: bool | None) -> TrustBundle:
        """Write the bundle; what was written. `present` says whether there is to be one already (None: either).

        The sequence is the one given, but always greater than the one before, so that it grows with each change of
        content. The same content with a sequence that is no greater changes nothing, and is not recorded.
        Raises AlreadyExists, NotFound.
        """

    async def delete_federated(self, trust_domain: TrustDomain, audit: AuditEvent) -> None:
        """Raises NotFound; FailedPrecondition while an entry federates with it, also one that is being made."""


class IssuanceLog(Protocol):
    """The durable record of everything signed. Implementation: store.issuance. Contract:
    tests/contract/test_issuance_log.py."""

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        """Write serial and audit record. Returns only when both would survive the loss of power; concurrent calls
        share a transaction (group commit) and fail or succeed one by one where they can. Raises AlreadyExists if the
        serial was ever used, Unavailable if the store cannot be written now.
        """

    async def settle(self, outcome: IssuanceOutcome) -> None:
        """Record how it ended. May return before it is durable (bounded queue; waits when that is full), and is
        written in order, with the next group. Never lost by a graceful stop. A serial that was never intended is
        ignored; the first outcome stays, except that UNKNOWN gives way to what its own issuer says later."""

    async def settle_as(self, outcome: IssuanceOutcome, serial: int, audit: AuditEvent) -> None:
        """As `settle`, of a certificate that bears another serial than its intent: the record has that one from now on.
        Returns only when it would survive the loss of power. Raises AlreadyExists if `serial` was ever used,
        Unavailable."""

    async def unsettled(self, before: datetime) -> list[IssuanceIntent]:
        """Intents older than `before` without an outcome, whoever wrote them."""

    async def get(self, serial: int) -> IssuanceRecord:
        """Raises NotFound."""

    async def find(self, query: IssuanceQuery) -> list[IssuanceRecord]:
        """Newest first, at most `query.limit`, those that come after `query.after` in that order."""


@dataclass(frozen=True, slots=True)
class IssuanceQuery:
    spiffe_id: SpiffeId | None = None
    authority: Skid | None = None
    entry_id: str | None = None
    live_at: datetime | None = None  # only what is unexpired then
    expires_before: datetime | None = None
    orphaned: bool = False  # only what belongs to no present entry, and is unexpired at `live_at`
    serial_prefix: str = ""  # lower-case hex digits, with the zeros that lead to 32 digits
    limit: int = 100
    after: int | None = None  # a serial: continue behind it


class IssuanceMeter(Protocol):
    """Counts what the issuer does. Implementation: telemetry.metrics. Never blocks, never raises."""

    def issuance(self, result: str, seconds: float) -> None:
        """One request was answered. `result`: `issued`; `refused` (the request's fault), `unavailable` (no authority or
        no store now), `failed` (a defect, or cut off)."""


class AuthorityMeter(Protocol):
    """Shows how the authorities stand. Implementation: telemetry.metrics. Never blocks, never raises."""

    def expires(self, what: Literal["root", "issuing_ca"], at: datetime | None) -> None:
        """The active root or issuing CA ends `at`; None: there is none."""

    def authorities(self, counts: dict[tuple[str, str], int]) -> None:
        """How many there are now, by (kind, state)."""


class RootAuthority(Protocol):
    """Where trust begins. Implementations: roots.disk (made by us, its key in our store), roots.cacerts (the user's
    files, which bring the issuing CA too), vault.root (a CA in Vault's PKI).
    Contract: tests/contract/test_root_authority.py.
    """

    async def load(self) -> RootState:
        """What this root is now, verified whole. Changes nothing that is in force; one that makes its root itself does
        so at the first call, and returns only when it is durable. Safe to call again at any time.

        Raises BadFile or FailedPrecondition with every fault, Unavailable.
        """

    async def sign_issuing_ca(
        self, root: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    ) -> IssuingGrant:
        """A certificate for an issuing CA's key under `root`, path length 0, never outliving it. `key` only proves to a
        root elsewhere that it is ours (PKCS #10), and stays here. What comes back was verified (key, names, validity,
        signature). Raises Unavailable; FailedPrecondition if this is not where `root`
        has its key, if it ends too soon, or if its issuing CA is not ours to make.
        """


@dataclass(frozen=True, slots=True)
class PluggedCa:
    """A CA for leaves that came with its root. `chain` are the intermediates above it, without the root. It may be the
    root itself: then it has the root's SKID, and no chain."""

    skid: Skid
    certificate: AuthorityCertificate
    chain: tuple[bytes, ...]
    private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class RootState:
    """A root authority as it is now.

    `roots` are all that came, `skid` the one that issuing CAs chain to. `issuing` is there if they bring it themselves.
    `crls` are PEM. `version` is equal for equal content. `warnings` are sentences for the operator.
    `key_source`: where the key of the root `skid` is; `key_ref`: what finds it there.
    """

    roots: tuple[AuthorityCertificate, ...]
    skid: Skid
    crls: tuple[bytes, ...] = ()
    issuing: PluggedCa | None = None
    version: str = ""
    warnings: tuple[str, ...] = ()
    key_source: KeySource = KeySource.NONE
    key_ref: str = ""


class RemoteRoot(RootAuthority, Protocol):
    """A root whose key is elsewhere, beside others that may take its place one day. Implementation: vault.root."""

    @property
    def pinned(self) -> bool:
        """Whether the configuration says which one `load` looks at."""

    async def load_issuer(self, reference: str) -> RootState:
        """Another one in the same place, verified as by `load`. Nobody trusts it because of that."""


@dataclass(frozen=True, slots=True)
class IssuingGrant:
    certificate: AuthorityCertificate
    chain: tuple[bytes, ...]  # intermediates up to, and without, the root
    root_skid: Skid


__all__ = [
    "AuthorityMeter",
    "AuthorityStore",
    "BroughtIssuingCa",
    "Certifier",
    "FederationStore",
    "IssuanceLog",
    "IssuanceMeter",
    "IssuanceQuery",
    "IssuingGrant",
    "IssuingKey",
    "IssuingKeys",
    "KeyEncryptionKey",
    "LeafSigner",
    "PluggedCa",
    "RemoteRoot",
    "RootAuthority",
    "RootState",
    "Signer",
    "SigningAuthorities",
    "SigningAuthority",
]
