"""Where authorities, their keys and the bundles are written down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.ca.model import Authority, AuthorityCertificate, AuthorityState, KeySource, SealedKey, Skid, TrustBundle
from citadel.spiffe import TrustDomain


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
