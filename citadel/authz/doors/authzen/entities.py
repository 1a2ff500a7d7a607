"""The directory of entities: what is known of subjects, resources and actions besides what a question says.

    entities:
    - {type: user, id: alice@example.com, properties: {department: sales}}
    - {type: record, id: "101", properties: {owner: alice@example.com, workload: spiffe://example.org/ns/crm/sa/records}}
    actions:
    - {name: GET}

A file of YAML or JSON, read whole or not at all. It fills in properties that a question leaves out, and is what a
search goes through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citadel.authz.asking import said
from citadel.authz.load.places import locate
from citadel.authz.load.read import read
from citadel.authz.load.result import dotted
from citadel.authz.load.text import decode
from citadel.authz.load.tree import NotText, Path
from citadel.errors import BadFile, Mistake

MOST_ENTITIES = 200_000
_TOLD_MISTAKES = 200
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


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _WrittenEntity(_Written):
    type: str = Field(min_length=1)
    id: str = Field(min_length=1)
    properties: dict[str, Any] = Field(default_factory=dict)


class _WrittenAction(_Written):
    name: str = Field(min_length=1)
    properties: dict[str, Any] = Field(default_factory=dict)
    resource_types: list[str] = Field(default_factory=list)


class _WrittenDirectory(_Written):
    entities: list[_WrittenEntity] = Field(default_factory=list, max_length=MOST_ENTITIES)
    actions: list[_WrittenAction] = Field(default_factory=list, max_length=10_000)


def read_entities(name: str, content: bytes) -> EntityDirectory:
    """The directory that a file holds. Raises BadFile with every mistake in it."""
    text = decode(name, content)
    tree = read(text, is_json=name.endswith(".json"))
    if tree.faults:
        raise BadFile([Mistake(name, "", fault.message, fault.line, fault.column) for fault in tree.faults])
    if len(tree.documents) > 1:
        raise BadFile([Mistake(name, "", "it holds several documents; expected one", tree.documents[1][1])])
    value = _plain(tree.documents[0][0]) if tree.documents else {}
    try:
        written = _WrittenDirectory.model_validate({} if value is None else value)
    except ValidationError as error:
        wrong = [(tuple(one["loc"]), said(one["msg"])) for one in error.errors(include_url=False, include_input=False)]
        raise BadFile(_mistakes(name, text, wrong)) from None
    if twice := list(_twice(written)):
        raise BadFile(_mistakes(name, text, twice))
    return EntityDirectory(
        (Entity(one.type, one.id, one.properties) for one in written.entities),
        (Actor(one.name, one.properties, frozenset(one.resource_types)) for one in written.actions),
    )


def _twice(written: _WrittenDirectory) -> Iterator[tuple[Path, str]]:
    seen: dict[tuple[str, str], int] = {}
    for place, entity in enumerate(written.entities):
        first = seen.setdefault((entity.type, entity.id), place)
        if first != place:
            yield ("entities", place, "id"), f"entities[{first}] is of this type and id too"
    names: dict[str, int] = {}
    for place, action in enumerate(written.actions):
        first = names.setdefault(action.name, place)
        if first != place:
            yield ("actions", place, "name"), f"actions[{first}] has this name too"


def _mistakes(name: str, text: str, wrong: list[tuple[Path, str]]) -> list[Mistake]:
    told = wrong[:_TOLD_MISTAKES]
    places = locate(text, 0, {path for path, _ in told})
    return [Mistake(name, dotted(path), message, *places[path]) for path, message in told]


def _plain(value: Any) -> Any:
    """Without the reader's marks: what is not text in YAML (a number, a boolean) is what JSON would have."""
    if isinstance(value, NotText):
        return _number(value.text) if value.truth is None else value.truth
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
