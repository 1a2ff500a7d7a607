"""What a door does to the request that goes on: claims into headers, tokens out of it. Values only.

Headers that rules write are taken out of every request first, token or none: else a caller could write them himself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from citadel.authz.model import ClaimToHeader, JwtRule
from citadel.authz.request import JsonValue
from citadel.authz.tokens.compact import UnverifiedToken
from citadel.authz.tokens.locations import Place, Presented

_MAX_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class RequestChanges:
    """In this order: `remove_headers`, `remove_params`, `add_headers`. Names in lower case."""

    remove_headers: tuple[str, ...] = ()
    remove_params: tuple[str, ...] = ()
    """Query parameters that carried the token, as they read when decoded."""
    add_headers: tuple[tuple[str, str], ...] = ()


def written_headers(rules: Iterable[JwtRule]) -> tuple[str, ...]:
    """All headers that the rules may write, each once."""
    names = (
        name
        for rule in rules
        for name in (rule.output_payload_to_header, *(one.header for one in rule.output_claim_to_headers))
    )
    return tuple(dict.fromkeys(name.lower() for name in names if name))


def changes(
    accepted: Sequence[tuple[JwtRule, Presented]], token: UnverifiedToken, written: Sequence[str]
) -> RequestChanges:
    """What accepted tokens do to the request; `token`, the first of them, is the one whose claims are passed on.

    `written`: the headers of all rules. A token in a cookie stays there, as in Envoy.
    """
    taken = [found for rule, found in accepted if not rule.forward_original_token]
    headers = [found.name for found in taken if found.place is Place.HEADER]
    params = dict.fromkeys(found.name for found in taken if found.place is Place.PARAM)
    return RequestChanges(
        tuple(dict.fromkeys([*written, *headers])), tuple(params), tuple(_headers(accepted[0][0], token))
    )


def _headers(rule: JwtRule, token: UnverifiedToken) -> Iterator[tuple[str, str]]:
    if rule.output_payload_to_header:
        yield rule.output_payload_to_header.lower(), token.payload
    for one in rule.output_claim_to_headers:
        value = _text(_claim(token, one))
        if value is not None:
            yield one.header.lower(), value


def _claim(token: UnverifiedToken, wanted: ClaimToHeader) -> JsonValue:
    value: JsonValue = dict(token.claims)
    for name in wanted.claim.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _text(value: JsonValue) -> str | None:
    """The claim as a header's value, as Envoy writes it; None: it cannot be one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if _fits_header(value) else None
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) and 0 <= value <= _MAX_INTEGER else f"{value:f}"
    if isinstance(value, list | dict):
        text = (
            json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
        )
        return base64.b64encode(text.encode()).decode()
    return None


def _fits_header(value: str) -> bool:
    return not any(c in value for c in "\r\n\0")
