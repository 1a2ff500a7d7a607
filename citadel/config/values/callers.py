"""Who may call: users and groups of this machine by name or number, and SPIFFE IDs."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from citadel.config.values.reading import AS_TEXT, several
from citadel.spiffe import SpiffeId


def _ids(lookup: Callable[[str], int], noun: str) -> Callable[[Any], tuple[int, ...]]:
    def read(value: Any) -> tuple[int, ...]:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"expected a list of {noun} names or numbers, not {value!r}")
        return tuple(sorted({one(item) for item in items}))

    def one(item: Any) -> int:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise ValueError(f"{item!r} is neither the name nor the number of a {noun}")
        if isinstance(item, int) or item.isdecimal():
            number = int(item)
            if number > 0xFFFFFFFE or number < 0:
                raise ValueError(f"{number} is not the number of a {noun}")
            return number
        try:
            return lookup(item)
        except KeyError:
            raise ValueError(f"this machine has no {noun} {item!r}") from None

    return read


def _group(text: str) -> int:
    return grp.getgrnam(text).gr_gid


def _user(text: str) -> int:
    return pwd.getpwnam(text).pw_uid


def _optional_group(value: Any) -> int | None:
    return None if value in (None, "") else _ids(_group, "group")([value])[0]


def _caller(text: str) -> str:
    """`uid:N`, `gid:N` with the number of what was named, `sub:NAME`, or a SPIFFE ID."""
    kind, colon, name = text.partition(":")
    ids = {"uid": (_user, "user"), "gid": (_group, "group")}.get(kind)
    if colon and ids is not None:
        lookup, noun = ids
        return f"{kind}:{_ids(lookup, noun)([name])[0]}"
    if kind == "sub" and name:
        return text
    if text.startswith("spiffe://"):
        return SpiffeId.parse(text).uri
    raise ValueError(f"{text!r} names nobody; expected uid:NAME, gid:NAME, sub:NAME or a SPIFFE ID")


Callers = Annotated[
    tuple[str, ...], PlainValidator(several(_caller, "callers")), PlainSerializer(list, return_type=list)
]
Users = Annotated[tuple[int, ...], BeforeValidator(_ids(_user, "user"))]
OptionalGroup = Annotated[int | None, PlainValidator(_optional_group), AS_TEXT]
Groups = Annotated[tuple[int, ...], BeforeValidator(_ids(_group, "group"))]
