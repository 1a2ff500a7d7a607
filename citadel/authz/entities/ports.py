"""What the directory of entities needs of the store. The comments are a contract: tests/contract/test_entities.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.authz.entities.directory import Actor, Entity, EntityDirectory


@dataclass(frozen=True, slots=True, order=True)
class EntityKey:
    """What an entity is told from others by; of an action (`type` is None) its name."""

    type: str | None
    id: str

    @classmethod
    def of(cls, one: Entity | Actor) -> EntityKey:
        return cls(one.type, one.id) if isinstance(one, Entity) else cls(None, one.name)

    def __str__(self) -> str:
        return f"action {self.id}" if self.type is None else f"{self.type} {self.id}"


@dataclass(frozen=True, slots=True)
class EntityVersion:
    """The directory of one moment."""

    number: int
    """Of the last change, from 1; 0: nothing was ever put into the store."""
    directory: EntityDirectory


class EntityStore(Protocol):
    """The directory of entities as it is now. Implementation: store.entities (SQLite, PostgreSQL)."""

    async def current(self) -> EntityVersion:
        """All of it, of one moment."""

    async def number(self) -> int:
        """The number of `current` alone."""

    async def page(self, after: str, limit: int, kind: str | None = None) -> tuple[Sequence[Entity | Actor], str]:
        """Up to `limit` entities (with `kind` those of this type) behind the cursor `after`, "" at first, and the next
        cursor; it is "" behind the last. In no particular order, and each once if it was there all the while."""

    async def commit(
        self, number: int, put: Sequence[Entity | Actor], gone: Collection[EntityKey], audit: AuditEvent
    ) -> None:
        """Make it that number: `put` created or replaced, and without `gone`.

        Returns when all of it, and the audit record, would survive the loss of power; then changes.Topic.ENTITIES is
        announced. Raises Aborted, and changes nothing, unless the number was the one before. Safe to call from several
        servers at once.
        """
