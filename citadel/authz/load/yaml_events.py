"""Reads YAML as libyaml's events: bounded in depth, size and aliases, and without tags that build things."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from citadel.authz.load.tree import WORDS, Fault, NotText, Tree, Value, key_text, resolve

MAX_DEPTH = 64
"""How deep lists and mappings may be nested; a policy needs eight, anything in Kubernetes fewer than forty."""
MAX_ALIASED = 10_000
"""How many values the aliases of one piece may stand for altogether."""
MANY = 12_000
DENSE = 6
"""A piece with more than MANY values has at least DENSE characters for each: a `List` of policies has eight and more.
Less is made to take our time."""

LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD = "tag:yaml.org,2002:"


def read_yaml(text: str) -> Tree:
    """Never raises: what is wrong is in the result."""
    return _Reader(text).tree()


class _TooMuch(Exception):
    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(message)
        self.message, self.mark = message, mark


_MERGE = NotText("<<")
_NONE = object()


class _Frame:
    """A list or mapping that is being read."""

    __slots__ = ("anchor", "inner", "is_map", "key", "seen")

    def __init__(self, inner: Any, is_map: bool, anchor: str | None, seen: int) -> None:
        self.inner, self.is_map, self.anchor, self.seen = inner, is_map, anchor, seen
        self.key: Any = _NONE


class _Reader:
    """Builds values from libyaml's events, which come without recursion and can be stopped at any one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tree = Tree()
        self._anchors: dict[str, tuple[Value, int]] = {}
        self._open: set[str] = set()
        self._count = 0  # values so far, those behind aliases included
        self._aliased = 0
        self._most = max(MANY, len(text) // DENSE)

    def tree(self) -> Tree:
        tree = self._tree
        try:
            loader = LOADER(self._text)
            try:
                self._run(loader.get_event)
            finally:
                loader.dispose()
        except _TooMuch as error:
            tree.faults.append(_fault(error.message, error.mark))
        except yaml.MarkedYAMLError as error:
            tree.faults.append(_fault(f"it is not YAML: {_explained(error)}", error.problem_mark or error.context_mark))
        except yaml.reader.ReaderError:
            tree.faults.append(_unreadable(self._text))
        return tree

    def _run(self, get_event: Callable[[], Any]) -> None:
        stack: list[_Frame] = []
        frame: _Frame | None = None
        line = 1
        read_scalar = self._scalar  # names that are looked up once: a policy has sixty events
        scalar, map_start, map_end = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.MappingEndEvent
        list_start, list_end = yaml.SequenceStartEvent, yaml.SequenceEndEvent
        while True:
            event = get_event()
            kind = event.__class__
            if kind is scalar:
                value = read_scalar(event)
            elif kind is map_start or kind is list_start:
                is_map = kind is map_start
                self._check_collection(event, is_map, len(stack))
                if frame is None:
                    line = event.start_mark.line + 1
                    if not is_map:
                        raise _TooMuch("a document is a mapping, and this is a list", event.start_mark)
                else:
                    stack.append(frame)
                frame = _Frame({} if is_map else [], is_map, event.anchor, self._count)
                self._count += 1
                continue
            elif kind is map_end or kind is list_end:
                assert frame is not None
                value = self._finished(frame)
                frame = stack.pop() if stack else None
            elif kind is yaml.AliasEvent:
                value = self._alias(event)
            elif kind is yaml.StreamEndEvent or event is None:
                return
            else:
                self._anchors.clear()
                line = event.start_mark.line + 1
                continue
            if frame is None:
                self._tree.documents.append((value, line))
            elif not frame.is_map:
                frame.inner.append(value)
            elif frame.key is _NONE:
                frame.key = self._key(value, event)
                self._duplicate(frame, event)
            else:
                frame.inner.setdefault(frame.key, value)
                frame.key = _NONE

    def _check_count(self, event: Any) -> None:
        if self._count - self._aliased > self._most:
            said = f"it has more than {self._most} values, too many for its size; split it into several files"
            raise _TooMuch(said, event.start_mark)

    def _scalar(self, event: Any) -> Value:
        self._count += 1
        if not self._count & 0xFF:
            self._check_count(event)
        text: str = event.value
        tag = event.tag
        if tag is None and event.implicit[0]:
            # plain, without a tag: the only one that may be anything but text
            value = resolve(text) if text in WORDS or text[0] in "-+.0123456789" else text
        elif tag is None or tag == "!" or tag == _STANDARD + "str":
            value = text
        else:
            value = _tagged(tag, text, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        return value

    def _check_collection(self, event: Any, is_map: bool, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise _TooMuch(f"it is nested more than {MAX_DEPTH} deep", event.start_mark)
        self._check_count(event)
        if event.tag is not None and event.tag not in ("!", _STANDARD + ("map" if is_map else "seq")):
            raise _TooMuch(f"the tag {_short(event.tag)} is not allowed", event.start_mark)
        if event.anchor is not None:
            self._open.add(event.anchor)

    def _finished(self, frame: _Frame) -> Value:
        value = frame.inner
        if frame.is_map and _MERGE in value:
            value = self._merged(value)
        if frame.anchor is not None:
            self._open.discard(frame.anchor)
            self._anchors[frame.anchor] = (value, self._count - frame.seen)
        return value

    def _alias(self, event: Any) -> Value:
        name = event.anchor
        if name in self._open:
            raise _TooMuch(f"*{_short(name)} stands inside the value that it names", event.start_mark)
        if name not in self._anchors:
            raise _TooMuch(f"there is no &{_short(name)} before *{_short(name)}", event.start_mark)
        value, size = self._anchors[name]
        self._count += size
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise _TooMuch(f"its aliases stand for more than {MAX_ALIASED} values", event.start_mark)
        return value

    def _key(self, value: Value, event: Any) -> Any:
        if value.__class__ is str:
            return _MERGE if value == "<<" and event.__class__ is yaml.ScalarEvent and event.implicit[0] else value
        if value is None:
            return "null"
        if isinstance(value, NotText):
            return value
        raise _TooMuch("a list or mapping cannot be a key", event.start_mark)

    def _duplicate(self, frame: _Frame, event: Any) -> None:
        if frame.key in frame.inner:
            self._tree.faults.append(_fault(f"the key {_short(key_text(frame.key))} is there twice", event.start_mark))
            if len(self._tree.faults) > 100:
                raise _TooMuch("too many keys are there twice", event.start_mark)

    def _merged(self, value: dict[Any, Value]) -> dict[Any, Value]:
        """`<<: *base`: the keys of `base` that are not there already (yaml.org/type/merge.html)."""
        sources = value.pop(_MERGE)
        for source in sources if isinstance(sources, list) else [sources]:
            if not isinstance(source, dict):
                self._tree.faults.append(Fault("<< takes a mapping, or a list of mappings", 1, 1))
                continue
            for key, inner in source.items():
                value.setdefault(key, inner)
        return value


def _tagged(tag: str, text: str, event: Any) -> Value:
    short = tag.removeprefix(_STANDARD)
    if short in ("bool", "int", "float", "null"):
        value = resolve(text)
        what = {"bool": "a boolean", "null": "null"}.get(short, "a number")
        if (value.what if isinstance(value, NotText) else "null" if value is None else "text") == what:
            return value
    raise _TooMuch(f"the tag {_short(tag)} is not allowed here", event.start_mark)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _fault(message: str, mark: Any) -> Fault:
    return Fault(message, mark.line + 1, mark.column + 1) if mark else Fault(message, 1, 1)


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "it is malformed").split())
    if problem == "found character that cannot start any token":
        return "a tab, or a character that cannot start a value, stands here; indent with spaces, or use quotes"
    return problem


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _unreadable(text: str) -> Fault:
    found = _UNPRINTABLE.search(text)
    if found is None:
        return Fault("it is not YAML: a character is not allowed", 1, 1)
    at = found.start()
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return Fault(f"the character U+{ord(found[0]):04X} is not allowed in YAML", line, column)
