"""From a TOML file and CITADEL_* variables to Settings, or to every mistake in them with its file, line and name."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from citadel.config.checks import Conflict, conflicts, dotted
from citadel.config.environment import Environment, leaves, read_environment, variable
from citadel.config.lines import key_lines, line_of
from citadel.config.nearest import nearest
from citadel.config.settings import Section, Settings
from citadel.config.values import DATA_DIR, Places
from citadel.errors import BadFile, Mistake, NotFound, PermissionDenied, UnsafePermissions

MAX_FILE_BYTES = 1 << 20
Loc = tuple[str, ...]
_REQUIRED = {"trust_domain": "unset.invalid", "data_dir": "/unset"}


@dataclass(frozen=True)
class Source:
    """A configuration as it was written: tables, and where in the file or the environment each value stands."""

    path: Path | None  # the file, if there is one
    base: Path  # relative paths start here
    tables: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Loc, int] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path) if self.path else "configuration"

    def merged(self) -> dict[str, Any]:
        """File and environment in one; the environment wins."""
        return _merge(self.tables, self.environment.tables)

    def mistake(self, where: Loc, message: str) -> Mistake:
        if name := self.environment.variables.get(where):
            return Mistake(name, "", message)
        return Mistake(self.name, dotted(where), message, line_of(where, self.lines))

    def conflict(self, conflict: Conflict) -> Mistake:
        """Placed at the first of its settings that somebody wrote: a default has no line to mend.

        Where that is not the one to mend, that one is named instead of `it`."""
        written = (f for f in conflict.fields if f in self.environment.variables or f in self.lines)
        first, message = conflict.fields[0], conflict.message
        placed = next(written, first)
        if placed != first:
            message = re.sub(r"^(one of )?it\b", lambda begin: (begin[1] or "") + dotted(first), message)
        return self.mistake(placed, message)

    def origin(self, where: Loc) -> str:
        """Where the value of a setting comes from: a variable, `file:line`, or `default`."""
        if name := self.environment.variables.get(where):
            return name
        line = self.lines.get(where)
        return f"{self.name}:{line}" if line else "default"


@dataclass(frozen=True)
class Loaded:
    settings: Settings
    source: Source

    def origins(self) -> dict[Loc, str]:
        """Where each setting's value comes from."""
        return {where: self.source.origin(where) for where in leaves(Settings)}


def load(path: Path | None, env: Mapping[str, str]) -> Settings:
    """The settings in the file at `path` (none: only variables and defaults), with the CITADEL_* variables of `env`.

    Raises BadFile with every mistake at once; NotFound, PermissionDenied or UnsafePermissions if the file cannot be
    taken at all.
    """
    return load_with_origins(path, env).settings


def load_with_origins(path: Path | None, env: Mapping[str, str]) -> Loaded:
    """As `load`, and where each value came from."""
    environment = read_environment(env, Settings)
    if path is None:
        source = Source(None, Path.cwd(), environment=environment)
    else:
        text = _read(path)
        base = path.absolute().parent
        tables = _parse_toml(path, text, environment.mistakes)
        source = Source(path, base, tables, key_lines(text), environment)
    return Loaded(_build(source), source)


def parse(tables: Mapping[str, Any], *, base: Path) -> Settings:
    """Settings from tables that are in memory already (tests, the demo). Raises BadFile."""
    return _build(Source(None, base, tables))


def _build(source: Source) -> Settings:
    mistakes = [*source.environment.mistakes, *_passwords_in_file(source)]
    given = source.merged()
    settings: Settings | None = None
    wrong: list[Loc] = []
    try:
        settings = Settings.model_validate(given, context=_places(given, source))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            where = tuple(str(part) for part in detail["loc"])
            where = _setting_at(where)
            wrong.append(where)
            mistakes.append(source.mistake(where, _sentence(where, detail)))
        settings = _without(given, wrong, source)
    if settings is not None:
        mistakes += (source.conflict(c) for c in conflicts(settings) if not _touches(c, wrong))
    if mistakes:
        raise BadFile(sorted(set(mistakes), key=lambda m: (m.file, m.line, m.field)))
    assert settings is not None
    return settings


def _without(given: Mapping[str, Any], wrong: Iterable[Loc], source: Source) -> Settings | None:
    """The settings as they would be if all that is wrong had its default: so that the rest can be checked as well."""
    rest = deepcopy(dict(given))
    for where in wrong:
        table: Any = rest
        for part in where[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.pop(where[-1], None)
    try:
        return Settings.model_validate(_REQUIRED | rest, context=_places(rest, source))
    except ValidationError:
        return None


def _touches(conflict: Conflict, wrong: Iterable[Loc]) -> bool:
    return any(where[: len(bad)] == bad for where in conflict.fields for bad in wrong)


def _places(given: Mapping[str, Any], source: Source) -> Places:
    """Where relative paths start. `data_dir` itself is checked with the rest; here it only must not fail."""
    written = given.get("data_dir")
    text = written if isinstance(written, str) and "\0" not in written else "unset"
    path = Path(text)
    with suppress(RuntimeError):  # ~user of a user who does not exist
        path = path.expanduser()
    return Places(base=source.base, data_dir=Path(os.path.normpath(source.base / path)))


def _setting_at(where: Loc) -> Loc:
    """The setting that pydantic's location belongs to: without the index of a list's element."""
    kind: type[Section] = Settings
    for depth, part in enumerate(where, 1):
        inner = kind.sections().get(part)
        if inner is None:
            return where[:depth]
        kind = inner
    return where


def _sentence(where: Loc, detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "there is no such setting" + nearest(dotted(where), [dotted(path) for path in leaves(Settings)])
        case "missing":
            return f"it must be set, here or by {variable(where)}"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"it is a table: write [{dotted(where)}]"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"it must be a whole number, not {detail['input']!r}"
        case "bool_parsing" | "bool_type":
            return f"it must be true or false, not {detail['input']!r}"
        case "byte_size" | "byte_size_unit":
            return f"{detail['input']!r} is not a size; write it as 64MiB"
        case "string_type":  # may be a secret: not shown
            return "it must be text, in quotes"
        case "string_pattern_mismatch":
            return f"{detail['input']!r} is not a name (1 to 63 letters, digits, '.', '_', '-')"
        case "literal_error":
            return f"it must be {detail['ctx']['expected']}, not {detail['input']!r}"
        case _:
            return detail["msg"].replace("Input should be", "it must be")


def _passwords_in_file(source: Source) -> list[Mistake]:
    """A configuration file is world-readable, so that the command line can find the sockets: no secrets in it."""
    store = source.tables.get("store")
    url = store.get("url") if isinstance(store, dict) else None
    if isinstance(url, str) and re.match(r"[a-z0-9+]+://[^/@]*:[^/@]*@", url, re.IGNORECASE):
        message = "a password does not belong into this file; use store.password_file, or CITADEL_STORE__URL"
        return [Mistake(source.name, "store.url", message, source.lines.get(("store", "url"), 0))]
    return []


def _read(path: Path) -> str:
    """The file's text. Raises as `load` does."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadFile([Mistake(str(path), "", "it is not a regular file")])
            if status.st_mode & stat.S_IWOTH:
                raise UnsafePermissions(f"{path} can be written by everybody", mend=f"run: chmod o-w {path}")
            if status.st_size > MAX_FILE_BYTES:
                raise BadFile([Mistake(str(path), "", f"it is larger than {MAX_FILE_BYTES} bytes")])
            raw = file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise NotFound(
            f"there is no configuration file {path}", mend="make one with 'citadel init', or name yours with --config"
        ) from None
    except IsADirectoryError:
        raise BadFile([Mistake(str(path), "", "it is not a regular file")]) from None
    except PermissionError:
        raise PermissionDenied(
            f"the configuration file {path} may not be read by uid {os.geteuid()}", mend="run: chmod a+r on it"
        ) from None
    except OSError as error:
        raise BadFile([Mistake(str(path), "", f"it cannot be read: {error.strerror}")]) from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadFile([Mistake(str(path), "", "it is not UTF-8 text", line)]) from None


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe would hold us up until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse_toml(path: Path, text: str, others: Sequence[Mistake]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        message, line, column = found.groups() if found else (str(error), None, None)
        at_end = text.rstrip("\n").count("\n") + 1
        mistake = Mistake(str(path), "", f"not TOML: {message}", int(line or at_end), int(column or 0))
        raise BadFile([mistake, *others]) from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        present = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(present, Mapping)
        merged[key] = _merge(present, value) if both else value  # type: ignore[arg-type]  # `both` says so
    return merged


__all__ = ["DATA_DIR", "Loaded", "Source", "load", "load_with_origins", "parse"]
