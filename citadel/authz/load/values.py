"""The texts inside a policy that have a form of their own: addresses, ports, accounts, templates, keys, durations.

Each function reads one text and gives the value, or a Refusal that says what was expected. What is refused is what
Istio's validation refuses (pkg/config/validation and pkg/config/security, 1.28), and what Envoy would not load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from citadel.authz.load.findings import Refusal, nearest, quoted
from citadel.authz.model import Attribute, ConditionKey, IpBlock

MAX_ACCOUNT = 320
MAX_URL = 2048
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_PORT = re.compile(r"[0-9]{1,32}")
_LITERAL_SEGMENT = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
_HEADER = re.compile(r":?[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # Envoy's HTTP_HEADER_NAME
_DURATION_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(h|ms|m|s|us|µs|μs|ns)")
_UNIT_NS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "μs": 10**3, "ns": 1}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def network(text: str) -> IpBlock | Refusal:
    """An address or a block of them (`10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`); bits behind the prefix are dropped."""
    address, slash, prefix = text.partition("/")
    if slash and not _PREFIX.fullmatch(prefix):
        return Refusal(f"{quoted(text)} is not a CIDR block: expected a prefix length behind the slash")
    try:
        ip = ip_address(address)
    except ValueError:
        return Refusal(f"{quoted(text)} is not an IP address or CIDR block; expected something like 10.0.0.0/8")
    if "%" in address:
        return Refusal(f"{quoted(text)} has a zone, which a policy cannot use")
    if slash and int(prefix) > ip.max_prefixlen:
        return Refusal(f"{quoted(text)}: the prefix length of an IPv{ip.version} block is at most {ip.max_prefixlen}")
    return ip_network((ip, int(prefix) if slash else ip.max_prefixlen), strict=False)


def port(text: str) -> int | Refusal:
    """A port, 0 to 65535, in decimal digits; leading zeros mean nothing."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        return Refusal(f"{quoted(text)} is not a port: expected a number from 0 to 65535")
    return int(text)


def wildcard(text: str) -> str | Refusal:
    """A text with at most one `*`, at its start or end."""
    if text.count("*") > 1:
        return Refusal(f"{quoted(text)} has more than one *; there may be one")
    if "*" in text and not text.startswith("*") and not text.endswith("*"):
        return Refusal(f"{quoted(text)} has a * inside; it may only be at the start or the end")
    return text


def trust_domain(text: str) -> str | Refusal:
    """A trust domain, or one with a `*` at its start or end."""
    if "/" in text:
        return Refusal(f"{quoted(text)} has a slash; a trust domain has none")
    return wildcard(text)


def service_account(text: str, namespace: str) -> str | Refusal:
    """`namespace/name`; a bare name is one of `namespace`."""
    if "*" in text:
        return Refusal(f"{quoted(text)} has a *; service accounts are named in full, or use principals or namespaces")
    if len(text) > MAX_ACCOUNT:
        return Refusal(f"it has {len(text)} characters; a service account has at most {MAX_ACCOUNT}")
    parts = text.split("/")
    if len(parts) > 2 or not all(parts):
        return Refusal(f"{quoted(text)} is not a service account: expected name or namespace/name")
    return text if len(parts) == 2 else f"{namespace}/{text}"


def path(text: str) -> str | Refusal:
    """A path pattern: literal, with a `*` at one end, or a template with `{*}` and `{**}`."""
    if "{" not in text and "}" not in text:
        return text
    is_template = "{*}" in text or "{**}" in text
    after_rest = False
    for segment in text.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if after_rest:
                return Refusal(f"{quoted(text)}: nothing like {{*}} or {{**}} may follow {{**}}")
            after_rest = segment == "{**}"
        elif "{" in segment or "}" in segment:
            return Refusal(f"{quoted(text)}: braces may only be {{*}} or {{**}}, each filling a whole segment")
        elif is_template and not _LITERAL_SEGMENT.fullmatch(segment):
            return Refusal(
                f"{quoted(text)}: the segment {quoted(segment)} of a template is empty or has characters that a "
                "template cannot have; * is only allowed as {*} or {**}"
            )
    if not text.startswith("/"):
        return Refusal(f"{quoted(text)}: a template starts with a slash")
    return text


def header_name(text: str) -> str | Refusal:
    """The name of a header, or of a pseudo-header (`:path`), in lower case."""
    if not _HEADER.fullmatch(text):
        return Refusal(f"{quoted(text)} is not the name of a header")
    return text.lower()


def duration(text: str) -> timedelta | Refusal:
    """A duration as Go and Kubernetes write it (`5s`, `1m30s`, `250ms`): at least 1 ms, in whole milliseconds."""
    expected = f"{quoted(text)} is not a duration: expected something like 5s or 250ms"
    nanoseconds, at = 0.0, 0
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or at > 100:
            return Refusal(expected)
        nanoseconds += float(part[1]) * _UNIT_NS[part[2]]
        at = part.end()
    if not at:
        return Refusal(expected)
    if nanoseconds < 10**6 or nanoseconds % 10**6:
        return Refusal(f"{quoted(text)}: a timeout is at least 1ms, in whole milliseconds")
    if nanoseconds > 365 * 24 * 3600 * 10**9:
        return Refusal(f"{quoted(text)} is longer than a year")
    return timedelta(milliseconds=nanoseconds // 10**6)


def timestamp(text: str) -> datetime | Refusal:
    """An RFC 3339 time, in UTC."""
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return Refusal(f"{quoted(text)} is not a time: expected something like 2026-01-31T12:00:00Z")


def http_url(text: str) -> str | Refusal:
    """An http or https URL with a host."""
    if len(text) > MAX_URL:
        return Refusal(f"it has {len(text)} characters; a URL has at most {MAX_URL}")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        return Refusal(f"{quoted(text)} is not a URL: expected https://host/path (or http://)")
    return text


# --- keys of conditions

_PLAIN = {
    a.value: a
    for a in Attribute
    if a not in (Attribute.REQUEST_HEADERS, Attribute.REQUEST_CLAIMS, Attribute.ENVOY_FILTERS)
}
_BRACKETS = re.compile(r"(?:\[[^\[\]]*\])+")
_INSTEAD = {
    "destination.namespace": "it is the policy's own metadata.namespace",
    "destination.labels": "use spec.selector",
    "destination.name": "use spec.selector",
    "destination.user": "use spec.selector",
}


def condition_key(text: str) -> ConditionKey | Refusal:
    """The key of a `when` condition, with what is in its brackets taken apart as Istio does."""
    if plain := _PLAIN.get(text):
        return ConditionKey(plain)
    name, _, rest = text.partition("[")
    inside = rest[:-1] if rest.endswith("]") else ""
    if name in ("request.headers", "request.auth.claims") or name.startswith("experimental.envoy.filters."):
        if not inside:
            return Refusal(f"{quoted(text)} needs a name in brackets: expected {name}[name]")
        return _bracketed(name, inside, text)
    if name in _INSTEAD:
        return Refusal(f"{quoted(text)} is not supported: {_INSTEAD[name]}")
    return Refusal(f"{quoted(text)} is not a condition{nearest(name, _ALL_KEYS) or _known(_ALL_KEYS)}")


def _bracketed(name: str, inside: str, text: str) -> ConditionKey | Refusal:
    if name == "request.headers":
        header = header_name(inside)
        return header if isinstance(header, Refusal) else ConditionKey(Attribute.REQUEST_HEADERS, (header,))
    if name == "request.auth.claims":
        # [a][b] is a claim inside a claim; anything else is one claim, brackets and all
        nested = _BRACKETS.fullmatch(f"[{inside}]")
        claims = tuple(inside.split("][")) if nested else (inside,)
        if not all(claims):
            return Refusal(f"{quoted(text)} has empty brackets")
        return ConditionKey(Attribute.REQUEST_CLAIMS, claims)
    filter_name = name.removeprefix("experimental.")
    if filter_name == "envoy.filters.":
        return Refusal(f"{quoted(text)} does not say which filter's metadata it reads")
    return ConditionKey(Attribute.ENVOY_FILTERS, (filter_name, inside))


def _known(keys: Iterable[str]) -> str:
    return f"; there are {', '.join(keys)}"


_ALL_KEYS = (*_PLAIN, "request.headers[name]", "request.auth.claims[name]", "experimental.envoy.filters.NAME[key]")
