"""What a source of policies is read from: the contract. Implementations: `folder`, and authz.stored.origin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from citadel.authz.load import SourceText
from citadel.errors import Mistake


@dataclass(frozen=True, slots=True)
class Reading:
    """What an origin says now, all of one state."""

    texts: Sequence[SourceText]
    unreadable: Sequence[Mistake] = ()
    missing: str = ""
    """Why there is nothing to apply, where it can say nothing yet; then `texts` is empty."""
    number: int = 0
    """Which version of the store it is: what loses or opens much was confirmed there. 0: not the store's."""


class Origin(Protocol):
    """Where policies are read from."""

    @property
    def where(self) -> str:
        """For people: a path, `the store`."""

    def readings(self) -> AbstractAsyncContextManager[AsyncIterator[Reading]]:
        """The state now, and the state after each change, endlessly; states that come quickly after one another may be
        left out, the last one never is. Errors of reading are tried again, and raise nothing."""
