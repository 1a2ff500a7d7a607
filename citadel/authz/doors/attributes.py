"""What Envoy asks (envoy.service.auth.v3.AttributeContext) as requests for the engine. Pure.

One request, as a rule. Where Envoy has joined what were perhaps several headers of one name, a header can be read in
more than one way, and all readings come back: only what every one of them allows is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from envoy.service.auth.v3 import attribute_context_pb2
from google.protobuf.json_format import MessageToDict

from citadel.authz.decision_point import JWT_FILTER
from citadel.authz.doors.joined import BadAttributes, readings
from citadel.authz.request import HttpRequest, IpAddress, JsonValue, Request, known_or_unknown
from citadel.errors import BadSpiffeId
from citadel.spiffe import SCHEME, SpiffeId, TrustDomain

JWT_PAYLOAD = "payload"
"""The key that Istio's proxies, and what Citadel generates, put a verified token's payload under."""
MAX_HEADERS = 1_000
_FORWARDED_FOR = "x-forwarded-for"


def read(
    attributes: attribute_context_pb2.AttributeContext,
    *,
    trust_domains: frozenset[TrustDomain],
    trusted_proxies: int,
    header_names: frozenset[str],
    claims: bool,
    path_normalized: bool = False,
) -> tuple[Request, ...]:
    """The readings of a check. Never empty.

    `trust_domains`: whose identities count. `header_names`: those that policies look at. `claims`: whether dynamic
    metadata, and with it the claims of a verified token, count. `path_normalized`: a listener has done that already.
    Raises BadAttributes.
    """
    if not attributes.HasField("destination"):
        raise BadAttributes("the check names no destination")
    asking, asked = attributes.source, attributes.destination.address.socket_address
    source = remote = _read_ip(asking.address.socket_address.address)
    metadata = _metadata(attributes) if claims else {}
    https: Sequence[HttpRequest | None] = (None,)
    request = attributes.request
    if request.HasField("http"):
        wire = request.http
        jwt = metadata.get(JWT_FILTER, {}).get(JWT_PAYLOAD)
        http = _http(wire, path_normalized, jwt if isinstance(jwt, dict) else None)
        if trusted_proxies:
            remote = original_client(http.headers.get(_FORWARDED_FOR, ()), source, trusted_proxies)
        sure = wire.HasField("header_map") or header_names.isdisjoint(http.headers)
        https = (http,) if sure else _read_in_every_way(http, header_names)
    port, destination = asked.port_value or None, _read_ip(asked.address)
    sni = attributes.tls_session.sni.lower()
    peer, unknown = _peers(asking.principal, trust_domains)
    return tuple([Request(port, peer, source, remote, destination, sni, one, metadata, unknown) for one in https])


@lru_cache(maxsize=4096)  # as with addresses
def peer_id(principal: str) -> SpiffeId | None:
    """The SPIFFE ID in a certificate's first URI SAN; of anything else of a certificate, None.

    Raises BadAttributes for what begins as one and is none: Envoy's RBAC filter would match it by its beginning, so
    that it cannot be taken for nobody, whom a DENY passes by."""
    if not principal.startswith(SCHEME):
        return None
    try:
        return SpiffeId.parse(principal)
    except BadSpiffeId as error:
        raise BadAttributes(f"the peer's certificate has a URI that is no SPIFFE ID: {error.message}") from None


@lru_cache(maxsize=4096)
def _peers(principal: str, trust_domains: frozenset[TrustDomain]) -> tuple[SpiffeId | None, SpiffeId | None]:
    """Raises BadAttributes."""
    return known_or_unknown(peer_id(principal), trust_domains)


@lru_cache(maxsize=4096)  # reading one costs as much as a decision, and the same come again
def _read_ip(text: str) -> IpAddress | None:
    try:
        return ip_address(text)
    except ValueError:  # a unix socket, or nothing
        return None


def _http(
    http: attribute_context_pb2.AttributeContext.HttpRequest,
    path_normalized: bool,
    jwt: Mapping[str, JsonValue] | None,
) -> HttpRequest:
    """With raw headers (the filter's encode_raw_headers) nothing was joined, and bytes are as they came."""
    if http.HasField("header_map"):
        headers = _raw(http.header_map.headers)
    else:
        given = http.headers
        headers = {name.lower(): (given[name],) for name in given}  # a protobuf map is slow at items()
        if len(headers) != len(given):
            raise BadAttributes("the request has two headers whose names differ in case alone")
    if len(headers) > MAX_HEADERS:
        raise BadAttributes(f"the request has more than {MAX_HEADERS} headers")
    method = _pseudo(headers, ":method", http.method)
    if not method:
        raise BadAttributes("the request has no method")
    return HttpRequest(
        method,
        _pseudo(headers, ":path", http.path) or "",
        _pseudo(headers, ":authority", http.host),
        headers,
        jwt,
        path_normalized,
    )


def _raw(given: Any) -> dict[str, tuple[str, ...]]:
    headers: dict[str, list[str]] = {}
    for header in given:
        raw = header.raw_value
        value = raw.decode("utf-8", "surrogateescape") if raw else header.value
        headers.setdefault(header.key.lower(), []).append(value)
    return {name: tuple(values) for name, values in headers.items()}


def _pseudo(headers: dict[str, tuple[str, ...]], name: str, field: str) -> str | None:
    """A pseudo-header, which is no header for the engine: from the headers, where it is as it came, or the field.

    Raises BadAttributes if there are two of it, or the two places say different things.
    """
    given = headers.pop(name, ())
    if len(given) == 1 and given[0] == field:  # as almost always
        return given[0]
    if len(given) > 1:
        raise BadAttributes(f"the request has two {name}")
    if not given:
        return field or None
    if field and given[0].isascii() and field != given[0]:  # others Envoy had to change to put them into the field
        raise BadAttributes(f"the request has two different {name}")
    return given[0]


def _read_in_every_way(http: HttpRequest, names: frozenset[str]) -> Sequence[HttpRequest]:
    """The request with its headers in every way in which they can have been sent, as far as policies look at them."""
    given = http.headers
    return [http if one is given else replace(http, headers=one) for one in readings(given, names)]


def original_client(forwarded: tuple[str, ...], source: IpAddress | None, trusted_proxies: int) -> IpAddress | None:
    """The original client, as Envoy finds it with `xff_num_trusted_hops`: behind so many proxies of ours.

    An Envoy that uses the remote address has added the direct peer's itself, which is none of theirs.
    """
    if not trusted_proxies:
        return source
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    if hops and source is not None and _plain(_read_ip(hops[-1])) == _plain(source):
        hops.pop()
    found = _read_ip(hops[-trusted_proxies]) if len(hops) >= trusted_proxies else None
    return source if found is None else found


def _plain(address: IpAddress | None) -> IpAddress | None:
    """An IPv4 address as such, also where it came through a socket of both kinds."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _metadata(attributes: attribute_context_pb2.AttributeContext) -> dict[str, dict[str, JsonValue]]:
    found: dict[str, dict[str, JsonValue]] = {}
    for name, struct in attributes.metadata_context.filter_metadata.items():
        found[name] = MessageToDict(struct)
    return found
