"""How a value is read from text, and written as text again: what all kinds have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import PlainSerializer

from citadel.errors import CitadelError


def from_text(read: Callable[[str], Any], *ready: type) -> Callable[[Any], Any]:
    """A validator that takes text (or what is already of a type in `ready`), and turns our errors into pydantic's."""

    def validate(value: Any) -> Any:
        if isinstance(value, ready):
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected text, not {value!r}")
        try:
            return read(value)
        except CitadelError as error:
            raise ValueError(error.message) from error

    return validate


def several(read: Callable[[str], Any], noun: str, *ready: type) -> Callable[[Any], tuple[Any, ...]]:
    """A validator of a list of what `read` makes of text; text alone is split at commas."""

    def validate(value: Any) -> tuple[Any, ...]:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"expected a list of {noun}, not {value!r}")
        return tuple(dict.fromkeys(from_text(read, *ready)(item) for item in items))

    return validate


def write_texts(values: tuple[object, ...]) -> list[str]:
    return list(map(str, values))


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


AS_TEXT = PlainSerializer(_or_empty, return_type=str)
