"""Changing the policies in the store: read whole, compared, validated whole, and only then a new version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from citadel.audit import AuditEvent, JsonScalar
from citadel.authz.facts import MeshFacts
from citadel.authz.lint import load_warnings
from citadel.authz.load import PolicyDocuments, SourceText, load
from citadel.authz.policyset import PolicySet, compile_documents
from citadel.authz.sources.caution import doubt
from citadel.authz.stored.change import Change, Named, applied, without
from citadel.authz.stored.model import Action, DocumentKey, StoredDocument, StoredSet, Version
from citadel.authz.stored.ports import PolicyStore
from citadel.authz.stored.texts import stored_documents
from citadel.clock import Clock
from citadel.errors import Aborted, FailedPrecondition, InternalFault, InvalidInput

LONGEST_COMMENT = 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants a change, and how."""

    actor: str
    comment: str = ""
    base: int | None = None
    """The number of the version that they looked at; None: whatever it is now."""
    confirmed: bool = False
    """It is meant to lose or to open what it does (sources.caution)."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if len(self.comment) > LONGEST_COMMENT:
            raise InvalidInput(f"the comment has {len(self.comment)} characters; at most {LONGEST_COMMENT} are kept")


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did, or (a dry run) would do."""

    base: int
    """The version before."""
    version: Version | None
    """The new one; None: nothing was changed."""
    change: Change
    doubt: str
    """Why it has to be confirmed; empty: it has not."""
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """What is none of our documents, and was not read."""


class StoredPolicies:
    """The use cases. `facts` and `default_namespace` are this server's: what it validates by."""

    def __init__(self, store: PolicyStore, facts: MeshFacts, clock: Clock, *, default_namespace: str) -> None:
        self._store = store
        self.facts = facts
        self._clock = clock
        self.default_namespace = default_namespace
        # What was read last; what the next one has in common with it is not read again.
        self._given: PolicyDocuments | None = None
        self._read: PolicyDocuments | None = None
        self._compiled: PolicySet | None = None

    async def apply(self, texts: Sequence[SourceText], wish: Wish, *, prune: bool = False) -> Changed:
        """Create and replace the documents of `texts`; with `prune` delete all others.

        Raises BadFile with every mistake, Aborted if the version is no longer `wish.base`, FailedPrecondition if it has
        to be confirmed.
        """
        given = await asyncio.to_thread(load, texts, default_namespace=self.default_namespace, previous=self._given)
        self._given = given if wish.dry_run else None  # who looks first, comes again with the same
        if not len(given) and not prune:
            raise InvalidInput("there is no policy in what was given", mend="see what is read: docs/policies.md")
        documents = await asyncio.to_thread(stored_documents, given)
        before = await self._base(wish)
        change = applied(before.documents, documents, prune=prune)
        done = await self._carry_out("apply", before, change, wish, given=given)
        warnings = tuple(map(str, load_warnings(given, self.facts)))
        return replace(done, warnings=warnings, skipped=tuple(map(str, given.skipped)))

    async def delete(self, names: Sequence[Named], wish: Wish) -> Changed:
        """Raises NotFound, InvalidInput, Aborted, FailedPrecondition."""
        before = await self._base(wish)
        return await self._carry_out("delete", before, without(before.documents, names), wish)

    async def rollback(self, number: int, wish: Wish) -> Changed:
        """Make the documents those of an earlier version, which is a new version.

        Raises NotFound, Aborted, FailedPrecondition.
        """
        before = await self._base(wish)
        old = await self._store.at(number)
        change = applied(before.documents, [replace(one, since=0) for one in old.documents], prune=True)
        return await self._carry_out("rollback", before, change, wish, restores=number)

    async def listed(self, number: int | None = None) -> StoredSet:
        """The documents of a version; None: the newest. Raises NotFound."""
        return await (self._store.current() if number is None else self._store.at(number))

    async def history(self, limit: int, before: int | None = None, key: DocumentKey | None = None) -> list[Version]:
        return await self._store.versions(limit, before, key)

    async def compiled(self, set_version: str) -> tuple[str, PolicySet] | None:
        """Contract: decision_log.FormerSets. None also if it was made for a mesh that was configured otherwise."""
        version = await self._store.version_of(set_version)
        if version is None:
            return None
        texts = (await self._store.at(version.number)).texts()
        documents = await asyncio.to_thread(load, texts, default_namespace=self.default_namespace)
        policies = await asyncio.to_thread(compile_documents, documents, self.facts)
        return (str(version), policies) if policies.version == set_version else None

    async def _base(self, wish: Wish) -> StoredSet:
        current = await self._store.current()
        if wish.base is not None and wish.base != current.number:
            raise _overtaken(wish.base, current.version)
        return current

    async def _carry_out(
        self,
        action: Action,
        before: StoredSet,
        change: Change,
        wish: Wish,
        *,
        given: PolicyDocuments | None = None,
        restores: int = 0,
    ) -> Changed:
        if change.is_empty:
            return Changed(before.number, None, change, "")
        old, new = await asyncio.to_thread(self._validated, before, change)
        _refuse_other_meaning(given, new)
        held_against = None if before.version is None else old
        why = await asyncio.to_thread(doubt, held_against, new, self.facts.root_namespace)
        if wish.dry_run:
            return Changed(before.number, None, change, why)
        if why and not wish.confirmed:
            raise FailedPrecondition(f"nothing was changed: {why}", mend="if that is meant, say --confirm")
        compiled = await asyncio.to_thread(compile_documents, new, self.facts, self._compiled)
        self._compiled = compiled
        version = Version(
            before.number + 1,
            self._clock.now(),
            wish.actor,
            action,
            wish.comment,
            new.version,
            compiled.version,
            len(change.after),
            len(change.created),
            len(change.updated),
            len(change.deleted),
            confirmed=bool(why),
            restores=restores,
        )
        try:
            await self._store.commit(version, [*change.created, *change.updated], change.deleted, _record(version))
        except Aborted:
            raise _overtaken(before.number, await self._store.newest()) from None
        return Changed(before.number, version, change, why)

    def _validated(self, before: StoredSet, change: Change) -> tuple[PolicyDocuments, PolicyDocuments]:
        """The documents before and after, read whole. Blocks. Raises BadFile."""
        old = self._loaded(before.documents)
        return old, self._loaded(change.after)

    def _loaded(self, documents: Sequence[StoredDocument]) -> PolicyDocuments:
        texts = [one.text() for one in documents]
        self._read = load(texts, default_namespace=self.default_namespace, previous=self._read)
        return self._read


def _refuse_other_meaning(given: PolicyDocuments | None, stored: PolicyDocuments) -> None:
    """What is kept means what was given, or it is not kept: they were written by different hands (ours)."""
    kept = {DocumentKey.of(one): one for one in stored}
    for document in given or ():
        if kept.get(DocumentKey.of(document)) != document:
            raise InternalFault(f"{DocumentKey.of(document)} would not be kept as it was given; nothing was changed")


def _overtaken(base: int, now: Version | None) -> Aborted:
    if now is None:
        return Aborted(f"there is no version v{base}: the store has no policies", mend="see: citadel policy history")
    comment = f", {now.comment!r}" if now.comment else ""
    return Aborted(
        f"the policies were changed meanwhile: {now} by {now.actor} at {now.at:%Y-%m-%dT%H:%M:%SZ}{comment}; "
        f"you began with v{base}, and nothing of yours was changed",
        mend=f"see what it is: citadel policy diff v{base} {now}; then try again" if base else "look, then try again",
    )


def _record(version: Version) -> AuditEvent:
    detail: dict[str, JsonScalar] = {
        "documents": version.documents,
        "created": version.created,
        "updated": version.updated,
        "deleted": version.deleted,
        "content": version.content,
        "confirmed": version.confirmed,
        **({"restores": version.restores} if version.restores else {}),
    }
    return AuditEvent(version.at, version.actor, f"policy.{version.action}", str(version), detail, version.comment)
