"""Selectors: what is known about a process or a node, as `type:value` (SPIRE's form)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from citadel.errors import BadSelector

_TYPE = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_VALUE_BYTES = 4096


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """A selector such as `unix:uid:1000`: type `unix`, value `uid:1000`."""

    type: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read `type:value`, split at the first colon. Raises BadSelector."""
        kind, colon, value = text.partition(":")
        if not colon:
            raise BadSelector(text, "expected type:value, as in unix:uid:1000")
        return cls.of(kind, value)

    @classmethod
    def of(cls, kind: str, value: str) -> Selector:
        """A checked selector from its two parts. Raises BadSelector."""
        text = f"{kind}:{value}"
        if not _TYPE.fullmatch(kind):
            raise BadSelector(text, "the type must be a lower-case word, as in unix:uid:1000")
        if not value:
            raise BadSelector(text, "the value is empty")
        if len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
            raise BadSelector(text, f"the value is longer than {MAX_VALUE_BYTES} bytes")
        if not value.isprintable():
            raise BadSelector(text, "the value has characters that cannot be printed")
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"
