"""Values that never match, or match more than they seem to: each looked at by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv6Network, ip_network

from citadel.authz.facts import MeshFacts, PathNormalization
from citadel.authz.lint.fields import Field
from citadel.authz.lint.finding import Strike
from citadel.authz.load.findings import quoted
from citadel.authz.model import Action, Attribute
from citadel.authz.paths import BadPath, normalize
from citadel.authz.template import is_template
from citadel.errors import BadSpiffeId
from citadel.spiffe import SpiffeId

Said = Iterator[tuple[str, str]]  # code, message
_NOT_TEXT = re.compile(r"true|false|-?[0-9]+(?:\.[0-9]+)?")
_MAPPED = IPv6Network("::ffff:0:0/96")
_UNFINISHED = re.compile(r"(?:/\.{1,2}|%[0-9A-Fa-f]?)\Z")
_PORT = re.compile(r":(?:[0-9]+|\*)\Z")
_BOUNDARY = "/.:?=-@"


def strikes(field: Field, action: Action, facts: MeshFacts) -> Iterator[Strike]:
    """What there is to say of the values of one field."""
    look = _LOOKS.get(field.key.attribute.value if field.key else field.looks_at)
    for index, value in enumerate(field.values):
        at = (*field.path, index)
        if look is not None:
            yield from (Strike(code, at, message) for code, message in look(value, field, facts))
        if (
            field.negated == (action in (Action.DENY, Action.CUSTOM))
            and action is not Action.AUDIT
            and field.looks_at in _OPEN
        ):
            yield from (Strike(code, at, message) for code, message in _boundaries(value, field.looks_at))


def _is_exact(value: str) -> bool:
    return not value.startswith("*") and not value.endswith("*")


def _inner_star(value: str) -> Said:
    if "*" in value[1:-1]:
        yield "inner-star", f"the star inside {quoted(value)} is an ordinary character."


def _principal(value: str, _field: Field, _facts: MeshFacts) -> Said:
    if value.lstrip("*").startswith("spiffe://"):
        yield "principal-with-scheme", f"{quoted(value)} never matches."
        return
    yield from _inner_star(value)
    if _is_exact(value) and "*" not in value:
        try:
            SpiffeId.parse("spiffe://" + value)
        except BadSpiffeId as error:
            yield "principal-impossible", f"{quoted(value)} never matches: {error.message.rpartition(': ')[2]}."


def _path(value: str, _field: Field, facts: MeshFacts) -> Said:
    if is_template(value):
        return
    if "?" in value:
        yield "path-with-query", f"{quoted(value)} never matches."
        return
    yield from _inner_star(value)
    if value.startswith("*"):
        return
    if not value.startswith("/"):
        yield "path-without-slash", f"{quoted(value)} never matches."
        return
    literal = value.removesuffix("*")
    if facts.path_normalization is not PathNormalization.NONE:
        yield from _normal(value, literal, facts)


def _normal(value: str, literal: str, facts: MeshFacts) -> Said:
    if literal != value and _UNFINISHED.search(literal):
        return  # the start of something that may be normal
    try:
        normal = normalize(literal, facts.path_normalization)
    except BadPath as error:
        yield "path-not-normal", f"{quoted(value)} never matches: {error.message.rpartition(': ')[2]}."
        return
    if normal != literal:
        shown = normal + value[len(literal) :]
        yield "path-not-normal", f"{quoted(value)} never matches; as it is compared, it is {quoted(shown)}."


def _host(value: str, field: Field, _facts: MeshFacts) -> Said:
    if "/" in value:
        yield "host-with-scheme", f"{quoted(value)} never matches."
    elif not value.endswith("*") and not _PORT.search(value) and value + ":*" not in field.values:
        yield "host-without-port", f"{quoted(value)} does not match {quoted(value.lstrip('*') + ':8080')}."


def _method(value: str, _field: Field, _facts: MeshFacts) -> Said:
    if value != value.upper():
        yield "method-lower-case", f"{quoted(value)} is not {quoted(value.upper())}."


def _sni(value: str, _field: Field, _facts: MeshFacts) -> Said:
    if value != value.lower():
        yield "sni-upper-case", f"{quoted(value)} never matches."


def _claim(value: str, field: Field, facts: MeshFacts) -> Said:
    name = field.key.path[0] if field.key and len(field.key.path) == 1 else ""
    if name in facts.space_delimited_claims and " " in value:
        yield "claim-with-space", f"{quoted(value)} never matches a word of {name}."
    elif _NOT_TEXT.fullmatch(value):
        yield "claim-not-text", f"{quoted(value)} matches text only, and looks like a boolean or number in the token."


def _request_principal(value: str, _field: Field, _facts: MeshFacts) -> Said:
    if value == "*/*":
        yield "request-principal-star-star", "it matches only the subject `*`."
    elif "/" not in value and _is_exact(value):
        yield "request-principal-without-subject", f"{quoted(value)} matches only an empty subject."


def _address(value: str, _field: Field, _facts: MeshFacts) -> Said:
    block = ip_network(value)
    if isinstance(block, IPv6Network) and block.subnet_of(_MAPPED):
        yield "mapped-address", f"{value} never matches an IPv4 client."


def _only_ipv4(value: str, field: Field, facts: MeshFacts) -> Said:
    if value == "0.0.0.0/0" and "::/0" not in field.values:
        yield "only-ipv4", "no IPv6 address is in it."
    yield from _address(value, field, facts)


def _header(value: str, _field: Field, _facts: MeshFacts) -> Said:
    yield from _inner_star(value)


_LOOKS: dict[str, Callable[[str, Field, MeshFacts], Said]] = {
    Attribute.SOURCE_PRINCIPAL.value: _principal,
    Attribute.REQUEST_PRINCIPAL.value: _request_principal,
    Attribute.REQUEST_CLAIMS.value: _claim,
    Attribute.REQUEST_HEADERS.value: _header,
    Attribute.CONNECTION_SNI.value: _sni,
    Attribute.SOURCE_IP.value: _only_ipv4,
    Attribute.REMOTE_IP.value: _only_ipv4,
    Attribute.DESTINATION_IP.value: _address,
    "hosts": _host,
    "methods": _method,
    "paths": _path,
}
_OPEN = frozenset(
    {
        Attribute.SOURCE_PRINCIPAL.value,
        Attribute.SOURCE_NAMESPACE.value,
        Attribute.SOURCE_TRUST_DOMAIN.value,
        "paths",
        "hosts",
    }
)


def _boundaries(value: str, looks_at: str) -> Said:
    """A star beside a name: what an ALLOW opens by it, or a DENY leaves open, is more than the name."""
    if value == "*" or is_template(value):
        return
    if value.endswith("*") and not value.startswith("*") and value[-2] not in _BOUNDARY:
        yield "prefix-without-boundary", f"{quoted(value)} also matches {quoted(value[:-1] + '-other')}."
    elif value.startswith("*") and value[1] not in _BOUNDARY and looks_at != Attribute.SOURCE_NAMESPACE.value:
        yield "suffix-without-boundary", f"{quoted(value)} also matches {quoted('other' + value[1:])}."
