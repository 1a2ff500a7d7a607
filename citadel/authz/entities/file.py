"""The directory of entities as a file.

    entities:
    - {type: user, id: alice@example.com, properties: {department: sales}}
    - {type: record, id: "101", properties: {owner: alice@example.com, workload: spiffe://example.org/ns/crm/sa/records}}
    actions:
    - {name: GET}

A file of YAML or JSON, read whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citadel.authz.entities.directory import Actor, Entity, EntityDirectory
from citadel.authz.load.places import locate
from citadel.authz.load.read import read
from citadel.authz.load.result import dotted
from citadel.authz.load.text import decode
from citadel.authz.load.tree import NotText, Path
from citadel.authz.wording import findings
from citadel.errors import BadFile, Mistake

MOST_ENTITIES = 200_000
_TOLD_MISTAKES = 200


class _Twice(Exception):
    """A key in two forms: `1` and `"1"`."""


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
    try:
        value = _plain(tree.documents[0][0]) if tree.documents else {}
    except _Twice as twice_there:
        raise BadFile([Mistake(name, "", f"the key {twice_there} is there twice: once as text, once not")]) from None
    try:
        written = _WrittenDirectory.model_validate({} if value is None else value)
    except ValidationError as error:
        raise BadFile(_mistakes(name, text, findings(error, _WrittenDirectory))) from None
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
        plain = {key.text if isinstance(key, NotText) else key: _plain(inner) for key, inner in value.items()}
        if len(plain) != len(value):
            raise _Twice(next(key.text for key in value if isinstance(key, NotText) and key.text in value))
        return plain
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
