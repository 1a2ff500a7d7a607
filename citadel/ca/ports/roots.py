"""Where trust begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.ca.model import Authority, AuthorityCertificate, KeySource, Skid


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
