"""At which line of a TOML text each key is set: tomllib does not say, and a mistake without its line is half a help."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """The line (from 1) at which each key and table of `text`, which must be valid TOML, first appears.

    Reads it statement by statement: lines are gathered until they parse under the table header that is in force.
    """
    found: dict[Path, int] = {}
    header, statement, start = "", "", 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            start = number
        statement += line + "\n"
        is_header = start == number and line.lstrip().startswith("[")
        try:
            parsed = tomllib.loads(statement if is_header else header + statement)
        except tomllib.TOMLDecodeError:
            continue  # an array or a string that goes on
        if is_header:
            header = statement
        for path in _paths(parsed):
            found.setdefault(path, start)
        statement = ""
    return found


def line_of(path: Path, lines: Mapping[Path, int]) -> int:
    """The line of `path`, or of the nearest table around it; 0 if nothing of it is in the text."""
    while path:
        if line := lines.get(path):
            return line
        path = path[:-1]
    return 0


def _paths(value: Any, at: Path = ()) -> Iterator[Path]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*at, key))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from _paths(inner, at)
