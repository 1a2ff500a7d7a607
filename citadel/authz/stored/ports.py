"""What policies need of the store. Each comment is a contract; tests/contract/test_policy_store.py checks it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.authz.stored.model import DocumentKey, StoredDocument, StoredSet, Version


class PolicyStore(Protocol):
    """Versions of the set of policies. Implementation: store.policies (SQLite, PostgreSQL)."""

    async def current(self) -> StoredSet:
        """The newest version with its documents, of one moment."""

    async def newest(self) -> Version | None:
        """The newest version; None: there is none."""

    async def at(self, number: int) -> StoredSet:
        """A version with its documents. Raises NotFound."""

    async def versions(self, limit: int, before: int | None = None, key: DocumentKey | None = None) -> list[Version]:
        """Versions, newest first: those below the number `before`, and with `key` those that changed that document."""

    async def version_of(self, set_version: str) -> Version | None:
        """The newest version with this PolicySet.version."""

    async def commit(
        self, version: Version, put: Sequence[StoredDocument], gone: Collection[DocumentKey], audit: AuditEvent
    ) -> None:
        """Add a version: the documents of the one before, with those of `put` created or replaced, and without `gone`.

        Returns when all of it, and the audit record, would survive the loss of power; then changes.Topic.POLICIES is
        announced. Raises Aborted, and changes nothing, unless the newest version is the one with the number before.
        Safe to call from several servers at once.
        """
