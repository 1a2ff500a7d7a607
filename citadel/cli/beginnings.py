"""The beginning of an id in the place of the whole one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from citadel.errors import InvalidInput, NotFound

SHOWN = 8  # candidates
_T = TypeVar("_T")


def the_only(found: Sequence[_T], names: Sequence[str], what: str, given: str, missing: NotFound) -> _T:
    """The one of `found`, which `names` name. Raises `missing` if there is none, InvalidInput if there are more."""
    if not found:
        raise missing
    if len(found) > 1:
        several = f"{SHOWN} or more" if len(found) > SHOWN else str(len(found))
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        raise InvalidInput(f"{several} {what} that begins with {given!r}: {shown}", mend="say more of it")
    return found[0]
