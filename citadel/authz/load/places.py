"""Where in the text a value is written, for those few documents that there is something to say about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from citadel.authz.load.tree import Path
from citadel.authz.load.yaml_events import LOADER


def locate(text: str, document: int, wanted: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Where the values of these paths are written in the piece's document: line and column, from 1.

    For a field it is its key. What is not there itself (a missing field, something behind an alias) gets the place of
    what is around it. Reads the text once more; meant for the few documents with something to say about.
    """
    trie: _Trie = _Trie()
    for path in wanted:
        trie.add(path)
    try:
        loader = LOADER(text)
        try:
            _follow(loader.get_event, document, trie)
        finally:
            loader.dispose()
    except yaml.YAMLError:
        pass  # JSON that is no YAML (a surrogate pair, say): the places found so far must do
    return trie.places()


class _Trie:
    __slots__ = ("children", "paths", "place")

    def __init__(self) -> None:
        self.children: dict[str | int, _Trie] = {}
        self.paths: list[Path] = []
        self.place: tuple[int, int] | None = None

    def add(self, path: Path) -> None:
        node = self
        for part in path:
            node = node.children.setdefault(part, _Trie())
        node.paths.append(path)

    def places(self) -> dict[Path, tuple[int, int]]:
        found: dict[Path, tuple[int, int]] = {}
        todo = [(self, self.place or (1, 1))]
        while todo:
            node, around = todo.pop()
            place = node.place or around
            found.update(dict.fromkeys(node.paths, place))
            todo.extend((child, place) for child in node.children.values())
        return found


@dataclass(slots=True)
class _Level:
    """A list or mapping that is being walked."""

    node: _Trie | None
    is_map: bool
    index: int = 0
    at_key: bool = True
    of_key: _Trie | None = None

    def enter(self, event: Any, mark: tuple[int, int]) -> _Trie | None:
        """The trie node of the key, value or item that this event begins, if anybody wants to know; marks its place."""
        part: str | int | None = None
        if not self.is_map:
            part, self.index = self.index, self.index + 1
        elif self.at_key:
            part = event.value if event.__class__ is yaml.ScalarEvent else None
        if self.is_map and not self.at_key:
            self.at_key = True
            return self.of_key
        node = self.node.children.get(part) if self.node is not None and part is not None else None
        if node is not None and node.place is None:
            node.place = mark
        if self.is_map:
            self.of_key, self.at_key = node, False
            return None
        return node


def _follow(get_event: Callable[[], Any], document: int, root: _Trie) -> None:
    """Walk the events of one document with the trie in hand."""
    number = -1
    stack: list[_Level] = []
    while True:
        event = get_event()
        kind = event.__class__
        if kind is yaml.StreamEndEvent or (kind is yaml.DocumentEndEvent and number == document):
            return
        if kind is yaml.DocumentStartEvent:
            number += 1
        elif number != document:
            continue
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            stack.pop()
        else:
            mark = (event.start_mark.line + 1, event.start_mark.column + 1)
            if stack:
                node = stack[-1].enter(event, mark)
            else:
                node, root.place = root, mark
            if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                stack.append(_Level(node, kind is yaml.MappingStartEvent))
