"""Who signs, and with which key: what makes signatures, or whole certificates, and where issuing keys are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, AuthorityState, KeySource, SealedKey

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

    def makes_such(self, authority: Authority) -> bool:
        """Whether its key is where new ones are, and one of those that are made here."""

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
