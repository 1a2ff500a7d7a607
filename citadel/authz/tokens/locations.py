"""Where tokens are looked for in a request: headers, query parameters, cookies, as Envoy's jwt_authn does it.

Unless a rule names places, they are `Authorization: Bearer` and `?access_token=`. Each value of a repeated header is
looked at, but for those headers that Envoy joins. The prefix may be anywhere in the value; behind it, what is neither
base64url nor a dot is skipped. Of repeated parameters and cookies the first one counts. Measured on Envoy 1.40
(tests/interop/test_authz_tokens.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from citadel.authz.headers import JOINED_HEADERS
from citadel.authz.model import HeaderLocation, JwtRule
from citadel.authz.request import HttpRequest

_DEFAULT_HEADER = HeaderLocation("authorization", "Bearer ")
_DEFAULT_PARAM = "access_token"
_TOKEN = re.compile(r"[A-Za-z0-9_.-]")


class Place(StrEnum):
    HEADER = "header"
    PARAM = "parameter"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request holds where a token should be."""

    text: str = field(repr=False)
    place: Place
    name: str
    """Of the header (in lower case), the parameter or the cookie."""


def presented(rule: JwtRule, http: HttpRequest) -> Iterator[Presented]:
    """The tokens that the rule looks at, in the order in which they are tried."""
    anywhere = not (rule.from_headers or rule.from_params or rule.from_cookies)
    headers = (_DEFAULT_HEADER,) if anywhere else rule.from_headers
    params = (_DEFAULT_PARAM,) if anywhere else rule.from_params
    for location in sorted(headers, key=lambda one: one.name.lower() + one.prefix):
        name = location.name.lower()
        for value in _values(http, name):
            text = _behind(location.prefix, value)
            if text is not None:
                yield Presented(text, Place.HEADER, name)
    if params and "?" in http.path:
        given = _parameters(http.path)
        yield from (
            Presented(_decoded(given[name]), Place.PARAM, name) for name in sorted(set(params)) if name in given
        )
    if rule.from_cookies:
        jar = _cookies(http.headers.get("cookie", ()))
        yield from (Presented(jar[name], Place.COOKIE, name) for name in sorted(set(rule.from_cookies)) if name in jar)


def _values(http: HttpRequest, name: str) -> tuple[str, ...]:
    values = http.headers.get(name, ())
    return (",".join(values),) if len(values) > 1 and name in JOINED_HEADERS else values


def _behind(prefix: str, value: str) -> str | None:
    """The token behind the prefix; None: the prefix is not there. Without a prefix, the whole value."""
    if not prefix:
        return value
    at = value.find(prefix)
    if at < 0:
        return None
    found = _TOKEN.search(value, at + len(prefix))
    return value if found is None else value[found.start() :]


def _parameters(path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, path.partition("?")[2].partition("#")[0].split("&")):
        name, _, value = pair.partition("=")
        found.setdefault(_decoded(name), value)
    return found


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text


def _cookies(values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in ";".join(values).split(";"):
        name, equals, value = pair.lstrip(" ").partition("=")
        if equals:
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            found.setdefault(name, value[1:-1] if quoted else value.rstrip(" "))
    return found
