"""Changing the directory of entities in the store: compared with what is there, and written whole or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import stamina

from citadel.audit import AuditEvent
from citadel.authz.entities.directory import Actor, Entity, EntityDirectory
from citadel.authz.entities.file import MOST_ENTITIES, read_entities
from citadel.authz.entities.ports import EntityKey, EntityStore
from citadel.authz.load import SourceText
from citadel.clock import Clock
from citadel.errors import Aborted, BadFile, InvalidInput, Mistake, NotFound

LONGEST_COMMENT = 1000
_TRIES = 5  # where others change it at the same time


@dataclass(frozen=True, slots=True)
class EntityWish:
    """Who wants a change, and how."""

    actor: str
    comment: str = ""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if len(self.comment) > LONGEST_COMMENT:
            raise InvalidInput(f"the comment has {len(self.comment)} characters; at most {LONGEST_COMMENT} are kept")


@dataclass(frozen=True, slots=True)
class EntityChange:
    """What a change did, or (a dry run) would do."""

    number: int
    """Of the directory, afterwards."""
    created: tuple[EntityKey, ...]
    updated: tuple[EntityKey, ...]
    deleted: tuple[EntityKey, ...]
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Step:
    put: Sequence[Entity | Actor]
    change: EntityChange


_Stepping = Callable[[EntityDirectory], _Step]


class StoredEntities:
    """The use cases."""

    def __init__(self, store: EntityStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def apply(self, texts: Sequence[SourceText], wish: EntityWish, *, prune: bool = False) -> EntityChange:
        """Create and replace the entities of `texts`; with `prune` delete all others.

        Raises BadFile with every mistake, InvalidInput if there would be too many.
        """
        given = await asyncio.to_thread(_read, texts)
        return await self._change("apply", wish, lambda before: _applied(before, given, prune=prune))

    async def delete(self, keys: Collection[EntityKey], wish: EntityWish) -> EntityChange:
        """Delete all of them, or none. Raises NotFound naming all that are not there."""
        wanted = frozenset(keys)
        return await self._change("delete", wish, lambda before: _without(before, wanted))

    async def page(self, after: str, limit: int, kind: str | None = None) -> tuple[Sequence[Entity | Actor], str]:
        """Contract: ports.EntityStore.page."""
        return await self._store.page(after, limit, kind)

    async def _change(self, action: str, wish: EntityWish, step: _Stepping) -> EntityChange:
        async for attempt in stamina.retry_context(Aborted, attempts=_TRIES, timeout=None, wait_initial=0.05):
            with attempt:
                before = await self._store.current()
                made = await asyncio.to_thread(step, before.directory)
                change = made.change
                nothing = not (change.created or change.updated or change.deleted) and before.number > 0
                number = before.number if nothing or wish.dry_run else before.number + 1
                change = EntityChange(number, change.created, change.updated, change.deleted, change.unchanged)
                if number > before.number:
                    await self._store.commit(number, made.put, change.deleted, self._record(action, change, wish))
                return change
        raise AssertionError("unreachable")

    def _record(self, action: str, change: EntityChange, wish: EntityWish) -> AuditEvent:
        counts = {
            "created": len(change.created),
            "updated": len(change.updated),
            "deleted": len(change.deleted),
            "unchanged": change.unchanged,
        }
        return AuditEvent(
            self._clock.now(), wish.actor, f"entity.{action}", f"v{change.number}", {**counts}, wish.comment
        )


def _read(texts: Sequence[SourceText]) -> list[Entity | Actor]:
    """Of all files. Raises BadFile."""
    mistakes: list[Mistake] = []
    found: dict[EntityKey, Entity | Actor] = {}
    for text in texts:
        try:
            directory = read_entities(text.name, text.content)
        except BadFile as error:
            mistakes += error.mistakes
            continue
        for one in _all(directory):
            key = EntityKey.of(one)
            if key in found:
                mistakes.append(Mistake(text.name, "", f"{key} is in another of these files too"))
            found[key] = one
    if mistakes:
        raise BadFile(mistakes)
    return list(found.values())


def _all(directory: EntityDirectory) -> Iterable[Entity | Actor]:
    yield from directory.entities
    yield from directory.actions


def _applied(before: EntityDirectory, given: Sequence[Entity | Actor], *, prune: bool) -> _Step:
    old = {EntityKey.of(one): one for one in _all(before)}
    new = {EntityKey.of(one): one for one in given}
    created = tuple(key for key in new if key not in old)
    updated = tuple(key for key, one in new.items() if key in old and not _same(old[key], one))
    deleted = tuple(sorted(old.keys() - new.keys(), key=str)) if prune else ()
    after = len(old) + len(created) - len(deleted)
    if after > MOST_ENTITIES:
        raise InvalidInput(f"there would be {after} entities; {MOST_ENTITIES} is the most")
    put = [new[key] for key in (*created, *updated)]
    return _Step(put, EntityChange(0, created, updated, deleted, after - len(created) - len(updated)))


def _same(one: Entity | Actor, other: Entity | Actor) -> bool:
    """To Python `true` is `1`; to a policy it is not."""
    return one == other and json.dumps(dict(one.properties), sort_keys=True) == json.dumps(
        dict(other.properties), sort_keys=True
    )


def _without(before: EntityDirectory, keys: frozenset[EntityKey]) -> _Step:
    there = {EntityKey.of(one) for one in _all(before)}
    if missing := sorted(map(str, keys - there)):
        raise NotFound(f"there is no {', no '.join(missing)}", mend="see: citadel entity list")
    gone = tuple(sorted(keys, key=str))
    return _Step((), EntityChange(0, (), (), gone, len(there) - len(gone)))
