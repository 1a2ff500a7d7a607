"""What a criterion is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from citadel.authz.dimensions import Dimension, Keys
from citadel.authz.request import JsonValue
from citadel.authz.subject import Subject

NO_KEYS: Mapping[Dimension, Keys] = {}
IndexKeys = Mapping[Dimension, Keys]


class Criterion(Protocol):
    """One field of a rule, compiled."""

    @property
    def field(self) -> str: ...
    @property
    def values(self) -> tuple[str, ...]: ...
    @property
    def negated(self) -> bool: ...

    def holds(self, subject: Subject) -> bool: ...

    def actual(self, subject: Subject) -> JsonValue: ...

    def keys(self) -> IndexKeys: ...


def one_or_all(texts: tuple[str, ...]) -> JsonValue:
    return list(texts) if len(texts) > 1 else next(iter(texts), None)
