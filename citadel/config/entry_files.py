"""Registration entries as files: YAML or JSON that a user wrote, read whole, with every mistake at its line.

    entries:
      - spiffe_id: spiffe://example.org/shop/cart
        selectors: [unix:uid:1000, unix:path:/usr/bin/envoy]
        x509_ttl: 30m

docs/entries.md has all fields. A list without `entries:` is taken too, and so are several YAML documents in one file.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from citadel.config.durations import parse_duration
from citadel.config.nearest import nearest
from citadel.errors import BadFile, CitadelError, Mistake
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain

MAX_FILE_BYTES = 8 << 20
MAX_ENTRIES = 10_000  # in one application
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = Path("-")
_STDIN_NAME = "<stdin>"


@dataclass(frozen=True, slots=True)
class EntryDraft:
    """What a user says of an entry; each value is well formed, and whether they go together the registry decides.

    `parent_id` None: the local node. TTLs of None: the server's default. `file` and `line`: where it stands; `lines`:
    where each of its fields does. `unread`: fields that are no values at all, or missing; something else stands in for
    them, so that the registry can be asked about all others.
    """

    spiffe_id: SpiffeId
    selectors: frozenset[Selector]
    id: str = ""
    parent_id: SpiffeId | None = None
    x509_ttl: timedelta | None = None
    jwt_ttl: timedelta | None = None
    dns_names: tuple[str, ...] = ()
    federates_with: frozenset[TrustDomain] = frozenset()
    hint: str = ""
    admin: bool = False
    downstream: bool = False
    store_svid: bool = False
    expires_at: datetime | None = None
    labels: tuple[tuple[str, str], ...] = ()
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EntryFiles:
    """What some files say, and what is wrong with them. `broken`: entries of which something could not be read."""

    drafts: list[EntryDraft]
    broken: list[EntryDraft]
    mistakes: list[Mistake]


def read_entry_files(paths: Iterable[Path]) -> list[EntryDraft]:
    """The entries of all files; for a folder, of the `*.yaml`, `*.yml` and `*.json` in it, in order of name; for `-`,
    of standard input.

    Raises BadFile with every mistake of every file.
    """
    files = gather_entry_files(paths)
    if files.mistakes:
        raise BadFile(files.mistakes)
    return files.drafts


def gather_entry_files(paths: Iterable[Path]) -> EntryFiles:
    """As read_entry_files, for who wants what can be read beside what is wrong."""
    drafts: list[EntryDraft] = []
    broken: list[EntryDraft] = []
    mistakes: list[Mistake] = []
    for path in paths:
        for file in _files(path, mistakes):
            name = _STDIN_NAME if file == STDIN else str(file)
            text = _read(file, name, mistakes, named=file is path)
            if text is not None:
                found = parse_entries(text, name)
                drafts += found.drafts
                broken += found.broken
                mistakes += found.mistakes
    mistakes += _duplicates(drafts)
    if len(drafts) > MAX_ENTRIES:
        mistakes.append(Mistake(drafts[MAX_ENTRIES].file, "", f"there are more than {MAX_ENTRIES} entries"))
    return EntryFiles(drafts, broken, mistakes)


def parse_entries(text: str, file: str) -> EntryFiles:
    """The entries in `text` (YAML, of which JSON is a part), and its mistakes. `file` names it in them."""
    reader = _Reader(file)
    try:
        for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
            reader.document(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        reader.mistakes.append(Mistake(file, "", f"not YAML: {error.problem or error.context}", line, column))
    except yaml.YAMLError as error:  # characters that YAML does not take
        reader.mistakes.append(Mistake(file, "", f"not YAML: {' '.join(str(error).split())}"))
    except RecursionError:
        reader.mistakes.append(Mistake(file, "", "it is nested too deeply"))
    return EntryFiles(reader.drafts, reader.broken, reader.mistakes)


class _Reader:
    """Gathers the entries and mistakes of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.drafts: list[EntryDraft] = []
        self.broken: list[EntryDraft] = []
        self.mistakes: list[Mistake] = []

    def document(self, node: yaml.Node | None) -> None:
        if node is None or _is_null(node):
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in self._pairs(node, ""):
                if key.value == "entries":
                    self._entries(value)
                else:
                    self._wrong(
                        key, str(key.value), "there is no such field; a file has 'entries:', and below it a list"
                    )
        else:
            self._entries(node)

    def _entries(self, node: yaml.Node) -> None:
        if _is_null(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            self._wrong(node, "entries", "it must be a list of entries")
            return
        for number, item in enumerate(node.value):
            self._entry(item, f"entries[{number}]")

    def _entry(self, node: yaml.Node, at: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, at, "an entry has fields: spiffe_id, selectors, ...")
            return
        before = len(self.mistakes)
        values: dict[str, Any] = {}
        lines: list[tuple[str, int]] = []
        for key, value in self._pairs(node, at):
            name = str(key.value)
            read = _FIELDS.get(name)
            if name in _OURS:
                continue
            if read is None:
                self._wrong(key, f"{at}.{name}", "there is no such field" + nearest(name, _FIELDS))
            elif not _is_null(value):
                lines.append((name, key.start_mark.line + 1))
                self._value(values, name, read, value, f"{at}.{name}")
        given = {str(key.value) for key, value in node.value if not _is_null(value)}
        for name in ("spiffe_id", "selectors"):
            if name not in given:
                self._wrong(node, at, f"{name} is missing")
        unread = frozenset({name for name, _ in lines} | _STAND_IN.keys()) - values.keys()
        place: dict[str, Any] = {"file": self.file, "line": node.start_mark.line + 1, "lines": tuple(lines)}
        draft = EntryDraft(**(_STAND_IN | values), **place, unread=unread)
        (self.drafts if len(self.mistakes) == before else self.broken).append(draft)

    def _value(self, values: dict[str, Any], name: str, read: _Read, node: yaml.Node, at: str) -> None:
        try:
            values[name] = read(node)
        except _Wrong as error:
            for place, message in error.faults:
                self._wrong(place, at, message)

    def _pairs(self, node: yaml.MappingNode, at: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, at, "a field's name must be a word")
            elif key.value in seen:
                self._wrong(key, f"{at}.{key.value}".strip("."), "it is there twice")
            else:
                seen.add(key.value)
                yield key, value

    def _wrong(self, node: yaml.Node, at: str, message: str) -> None:
        self.mistakes.append(Mistake(self.file, at, message, node.start_mark.line + 1))


class _Wrong(Exception):
    """A value that is not what its field takes: what is wrong, and the nodes to point at."""

    def __init__(self, *faults: tuple[yaml.Node, str]) -> None:
        super().__init__("; ".join(message for _, message in faults))
        self.faults = faults


_Read = Callable[[yaml.Node], Any]


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _text(node: yaml.Node) -> str:
    """The scalar as it is written: `hint: 1.10` means the three characters, whatever YAML makes of them."""
    if not isinstance(node, yaml.ScalarNode):
        raise _Wrong((node, "it must be text"))
    return str(node.value)


def _as(parse: Callable[[str], Any]) -> _Read:
    def read(node: yaml.Node) -> Any:
        try:
            return parse(_text(node))
        except CitadelError as error:
            raise _Wrong((node, error.message)) from error
        except ValueError as error:
            raise _Wrong((node, str(error))) from error

    return read


def _each(read: _Read, into: Callable[[Iterable[Any]], Any]) -> _Read:
    def read_all(node: yaml.Node) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            raise _Wrong((node, "it must be a list"))
        values: list[Any] = []
        faults: list[tuple[yaml.Node, str]] = []
        for item in node.value:
            try:
                values.append(read(item))
            except _Wrong as error:
                faults.extend(error.faults)
        if faults:
            raise _Wrong(*faults)
        return into(values)

    return read_all


def _selectors(node: yaml.Node) -> frozenset[Selector]:
    selectors: frozenset[Selector] = _each(_as(Selector.parse), frozenset)(node)
    if not selectors:
        raise _Wrong((node, "at least one is needed, as in unix:uid:1000"))
    return selectors


def _flag(node: yaml.Node) -> bool:
    if _text(node) not in ("true", "false"):
        raise _Wrong((node, f"it must be true or false, not {_text(node)!r}"))
    return _text(node) == "true"


def _labels(node: yaml.Node) -> tuple[tuple[str, str], ...]:
    if not isinstance(node, yaml.MappingNode):
        raise _Wrong((node, "it must be names with values, such as {app: cart}"))
    pairs = {_text(key): _text(value) for key, value in node.value}
    if len(pairs) < len(node.value):
        raise _Wrong((node, "a label is there twice"))
    return tuple(sorted(pairs.items()))


def parse_moment(text: str) -> datetime:
    """An RFC 3339 moment, or a day (its first second in UTC). Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a moment; write it as 2027-01-31T12:00:00Z") from None
    if moment.tzinfo is None and len(text) > len("2027-01-31"):
        raise ValueError(f"{text!r} has no time zone; write it as 2027-01-31T12:00:00Z")
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


_FIELDS: dict[str, _Read] = {
    "id": _text,
    "spiffe_id": _as(SpiffeId.parse),
    "parent_id": _as(SpiffeId.parse),
    "selectors": _selectors,
    "x509_ttl": _as(parse_duration),
    "jwt_ttl": _as(parse_duration),
    "dns_names": _each(_text, tuple),
    "federates_with": _each(_as(TrustDomain.parse), frozenset),
    "hint": _text,
    "admin": _flag,
    "downstream": _flag,
    "store_svid": _flag,
    "expires_at": _as(parse_moment),
    "labels": _labels,
}
#: What `citadel entry list -o yaml` shows besides, and nobody can set. Passed over: its output can be applied as it is.
_OURS = ("apply_set", "revision", "created_at")
assert set(_FIELDS) == {f.name for f in fields(EntryDraft)} - {"file", "line", "lines", "unread"}
_STAND_IN: dict[str, Any] = {
    "spiffe_id": SpiffeId.parse("spiffe://unread/unread"),
    "selectors": frozenset({Selector("unread", "unread")}),
}


def distinct(drafts: Sequence[EntryDraft]) -> list[EntryDraft]:
    """Without those that repeat another one."""
    first: dict[object, EntryDraft] = {}
    return [one for one in drafts if all(first.setdefault(key, one) is one for key in _keys(one))]


def _keys(draft: EntryDraft) -> list[object]:
    return [(draft.spiffe_id, draft.parent_id, draft.selectors), *([draft.id] if draft.id else [])]


def _duplicates(drafts: Sequence[EntryDraft]) -> Iterator[Mistake]:
    """The same workload twice, in one file or in two: one of them would silently lose."""
    first: dict[object, EntryDraft] = {}
    for draft in drafts:
        for key in _keys(draft):
            other = first.setdefault(key, draft)
            if other is not draft:
                what = "the id" if key == draft.id else "SPIFFE ID, parent and selectors"
                field = "id" if key == draft.id else "spiffe_id"
                said = f"{what} as in {other.file}:{other.line}"
                line = dict(draft.lines).get(field, draft.line)
                yield Mistake(draft.file, field, said, line, document=str(draft.spiffe_id))


def _files(path: Path, mistakes: list[Mistake]) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    except OSError as error:
        mistakes.append(Mistake(str(path), "", f"it cannot be read: {error.strerror}"))
        return []
    return [file for file in found if not file.is_dir()]


def _read(path: Path, name: str, mistakes: list[Mistake], *, named: bool) -> str | None:
    """The text of one file, `name` in mistakes. What a user named may be a pipe; what lies in a folder is waited for
    by nobody."""
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            wait = 0 if named else os.O_NONBLOCK
            with open(path, "rb", opener=lambda place, flags: os.open(place, flags | wait)) as file:
                if not named and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    mistakes.append(Mistake(name, "", "it is not a regular file"))
                    return None
                raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        mistakes.append(Mistake(name, "", f"it cannot be read: {error.strerror}"))
        return None
    if len(raw) > MAX_FILE_BYTES:
        mistakes.append(Mistake(name, "", f"it is larger than {MAX_FILE_BYTES} bytes"))
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        mistakes.append(Mistake(name, "", "it is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1))
        return None
