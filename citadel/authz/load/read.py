"""Reads a piece of YAML or JSON: JSON by the standard library, which is faster, and all else by libyaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NoReturn

from citadel.authz.load.tree import Fault, NotText, Tree, Value
from citadel.authz.load.yaml_events import read_yaml

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")


def read(text: str, *, is_json: bool = False) -> Tree:
    """Read a piece. Never raises: what is wrong is in the result. JSON is read as such first, for it is faster."""
    if is_json or text[_skip(text, 0) :][:1] in ("{", "["):
        try:
            return Tree([(value, text.count("\n", 0, at) + 1) for value, at in _json_values(text)])
        except json.JSONDecodeError as error:
            if is_json:
                return Tree(faults=[Fault(f"it is not JSON: {error.msg}", error.lineno, error.colno)])
        except (ValueError, RecursionError):
            pass  # a key twice, or too deep: read it as YAML, of which it is a part, for the place
    return read_yaml(text)


def _json_values(text: str) -> Iterator[tuple[Value, int]]:
    """The values of a text with one or several, one after the other, as `kubectl` takes them. Raises ValueError."""
    at = _skip(text, 0)
    while at < len(text):
        value, end = _JSON.raw_decode(text, at)
        if _SURROGATE.search(text, at, end) and not _is_unicode(value):
            raise ValueError("half a surrogate pair")
        yield value, at
        at = _skip(text, end)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _is_unicode(value: Value) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


_JSON = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=NotText, parse_float=NotText, parse_constant=_no_constant, strict=True
)
