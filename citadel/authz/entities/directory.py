"""The directory of entities as values: what is known of subjects, resources and actions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Entity:
    """A subject or a resource."""

    type: str
    id: str
    properties: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Actor:
    """An action that is known, and to what types of resource it can be done (empty: to all)."""

    name: str
    properties: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    resource_types: frozenset[str] = frozenset()


class EntityDirectory:
    """All entities, by type and id. Immutable."""

    def __init__(self, entities: Iterable[Entity] = (), actions: Iterable[Actor] = ()) -> None:
        by_type: dict[str, dict[str, Entity]] = {}
        for entity in entities:
            by_type.setdefault(entity.type, {})[entity.id] = entity
        self._by_type = by_type
        self._ids = {kind: sorted(found) for kind, found in by_type.items()}
        self._actions = {action.name: action for action in sorted(actions, key=lambda one: one.name)}

    def __len__(self) -> int:
        return sum(map(len, self._ids.values()))

    @property
    def entities(self) -> Iterator[Entity]:
        """All of them."""
        for found in self._by_type.values():
            yield from found.values()

    @property
    def actions(self) -> Iterator[Actor]:
        """All of them, in order of name."""
        yield from self._actions.values()

    def properties(self, kind: str, name: str) -> Mapping[str, Any]:
        """What is known of an entity; empty if nothing is."""
        entity = self._by_type.get(kind, {}).get(name)
        return _NOTHING if entity is None else entity.properties

    def action_properties(self, name: str) -> Mapping[str, Any]:
        action = self._actions.get(name)
        return _NOTHING if action is None else action.properties

    def of_type(self, kind: str, after: str | None) -> Iterator[Entity]:
        """Those behind the id `after`, in order of id."""
        ids = self._ids.get(kind, [])
        for place in range(0 if after is None else bisect_right(ids, after), len(ids)):
            yield self._by_type[kind][ids[place]]

    def actions_on(self, resource_type: str, after: str | None) -> Iterator[Actor]:
        """Those behind the name `after` that can be done to such a resource, in order of name."""
        for action in self._actions.values():
            if (after is None or action.name > after) and (
                not action.resource_types or resource_type in action.resource_types
            ):
                yield action
