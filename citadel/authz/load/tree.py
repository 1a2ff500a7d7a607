"""What a piece of YAML or JSON holds, as plain values, with Kubernetes' idea of text.

A scalar is text, null, or NotText: what Kubernetes' YAML (1.1 in the matter of `on`, `yes`, `0o17`, `1_000`) takes for
a boolean or a number. Policies hold text nearly everywhere, so that `ports: [8080]` and `values: [on]` are mistakes
that can be named. Nothing is resolved by position or by guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Value = Any  # str | None | NotText | bool (JSON's) | list[Value] | dict[str | NotText, Value]; read with isinstance
Path = tuple[str | int, ...]

_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
WORDS = _TRUE | _FALSE | _NULL
_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\.[0-9]|[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"
    r"|\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
)


@dataclass(frozen=True, slots=True)
class NotText:
    """A scalar without quotes that is a boolean or a number to Kubernetes."""

    text: str
    truth: bool | None = None
    """What it is, if it is a boolean; None: it is a number."""

    @property
    def what(self) -> str:
        return "a number" if self.truth is None else "a boolean"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with the text as YAML or JSON. Line and column count from 1, within the piece."""

    message: str
    line: int
    column: int


@dataclass(slots=True)
class Tree:
    """What a piece holds: the value of each document with the line that it starts at, and what is wrong with the text.

    With faults, the values are not to be used.
    """

    documents: list[tuple[Value, int]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def key_text(key: Any) -> str:
    """A mapping's key as it is written."""
    return key.text if isinstance(key, NotText) else str(key)


def resolve(text: str) -> Value:
    """What a scalar without quotes and tag is to Kubernetes: null, a boolean, a number, or else text."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return NotText(text, truth=True)
    if text in _FALSE:
        return NotText(text, truth=False)
    if len(text) <= 400 and _NUMBER.fullmatch(text):
        return NotText(text)
    return text
