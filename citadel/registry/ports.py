"""What the registry needs from the world. Each comment is a contract; tests/contract checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.registry.model import Entry
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain


class Match(Enum):
    """How the selectors (or federated domains) of an entry are compared with those given; SPIRE's
    SelectorMatch.MatchBehavior, same numbers. An entry that has none matches nothing, and nothing matches if none are
    given."""

    EXACT = 0
    SUBSET = 1  # all that the entry has are among those given
    SUPERSET = 2  # the entry has all of those given
    ANY = 3  # they share one


@dataclass(frozen=True, slots=True)
class EntryQuery:
    spiffe_id: SpiffeId | None = None
    parent_id: SpiffeId | None = None
    selectors: tuple[frozenset[Selector], Match] | None = None
    federates_with: tuple[frozenset[TrustDomain], Match] | None = None
    hint: str | None = None
    downstream: bool | None = None
    apply_set: str | None = None
    id_prefix: str = ""
    limit: int = 1000
    after: str = ""  # an entry id: continue behind it (entries are in order of id)


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the registry: entries to create, to replace and to delete, each with its own audit record.

    `update` carries the revision that its maker read: the store refuses it (Aborted) if that is not the present one.
    """

    create: Sequence[tuple[Entry, AuditEvent]] = ()
    update: Sequence[tuple[Entry, AuditEvent]] = ()
    delete: Sequence[tuple[str, AuditEvent]] = ()


@dataclass(frozen=True, slots=True)
class EntryNews:
    """What happened to the entries after some position in the log of changes; `position` is where to go on.

    `changed` are those that were created or updated, as they are now (and so perhaps newer than `position`: the same
    change may come again), `gone` the ids of those that are no more. `whole`: `changed` is every entry that there is,
    and whatever else was known is gone. `more`: this is not all yet, ask again.
    """

    position: int
    changed: tuple[Entry, ...]
    gone: frozenset[str] = frozenset()
    whole: bool = False
    more: bool = False


class EntryStore(Protocol):
    """Where registration entries are written down. Implementation: store.entries. Contract:
    tests/contract/test_entry_store.py.

    Two entries are duplicates if SPIFFE ID, parent and selectors are all equal.
    """

    async def edit(self, edit: Edit, at: datetime) -> list[Entry]:
        """Carry out all of `edit` in one transaction with its audit records, or nothing.

        Returns the created and updated entries as stored (created_at set; revision 0, or one more than before), in
        the order given, only when they would survive the loss of power. Announces Topic.ENTRIES afterwards.
        Raises AlreadyExists (a duplicate, or the id is taken; `mend` names the entry that is in the way), NotFound
        (update, delete), Aborted (revision), InvalidInput (no selectors).
        """

    async def in_the_way(self, edit: Edit) -> list[tuple[Entry, str, str]]:
        """Each entry of `edit` that is a duplicate, or whose id is taken (then `edit` raises AlreadyExists at the first
        of them): the entry, the field (spiffe_id, or id), and a sentence that names the other one."""

    async def get(self, entry_id: str) -> Entry:
        """Raises NotFound."""

    async def get_all(self, entry_ids: Sequence[str]) -> list[Entry]:
        """In the order given. Raises NotFound, naming the first that is not there."""

    async def find(self, query: EntryQuery) -> list[Entry]: ...

    async def count(self, query: EntryQuery) -> int: ...

    async def all(self) -> list[Entry]:
        """Every entry, in order of id."""

    async def news(self, since: int | None) -> EntryNews:
        """What happened after the position `since`, a bounded number of changes at a time; everything if that is None,
        or so long ago that the log does not reach back to it. No change is ever passed over, whichever server made it
        and in whichever order they end."""

    async def expired(self, at: datetime, limit: int) -> list[Entry]:
        """Entries whose expires_at is at or before `at`."""
