"""The values of one field as Istio reads them: exact, `abc*`, `*abc`, and `*`; any of them may match."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Lower case as Envoy does it, for ASCII only: `str.lower` would make a `k` of the Kelvin sign."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class Patterns:
    """What a text may be. A star counts only as first or last character, and the first has precedence."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    present: bool = False
    """`*` is among them: any text but the empty one."""

    @classmethod
    def parse(cls, values: Iterable[str]) -> Patterns:
        exact, prefixes, suffixes, present = [], [], [], False
        for value in values:
            if value == "*":
                present = True
            elif value.startswith("*"):
                suffixes.append(value[1:])
            elif value.endswith("*"):
                prefixes.append(value[:-1])
            else:
                exact.append(value)
        return cls(frozenset(exact), tuple(prefixes), tuple(suffixes), present)

    def match(self, text: str) -> bool:
        return (
            text in self.exact
            or text.startswith(self.prefixes)
            or text.endswith(self.suffixes)
            or (self.present and text != "")
        )
