"""Requests and answers of citadel.v1.Authorization, as values and as messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.authz.request import HttpRequest, IpAddress, JsonValue, Request, known_or_unknown
from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId, TrustDomain

MOST_HEADERS = 1_000


@dataclass(frozen=True, slots=True)
class Believed:
    """What of a request a caller may state."""

    trust_domains: frozenset[TrustDomain]
    """Whose identities count."""
    claims: bool
    """Claims and metadata count."""

    def of(self, domains: Iterable[TrustDomain]) -> Believed:
        """The identities of these count, too."""
        return Believed(self.trust_domains.union(domains), self.claims)


def request_of(message: pb.AuthorizationAttributes, believed: Believed) -> Request:
    """Raises InvalidInput, with the first field that is wrong."""
    source = _address("source_ip", message.source_ip)
    remote = _address("remote_ip", message.remote_ip)
    metadata = {name: _object(struct) for name, struct in message.metadata.items()} if believed.claims else {}
    peer, unknown = known_or_unknown(_spiffe_id(message.peer) if message.peer else None, believed.trust_domains)
    if message.port > 65535:
        raise InvalidInput(f"port: {message.port} is none")
    return Request(
        port=message.port or None,
        peer=peer,
        source_ip=source,
        remote_ip=source if remote is None else remote,
        destination_ip=_address("destination_ip", message.destination_ip),
        sni=message.sni.lower(),
        http=_http(message.http, believed) if message.HasField("http") else None,
        metadata=metadata,
        unknown_peer=unknown,
    )


def message_of(request: Request) -> pb.AuthorizationAttributes:
    """The other way round. Raises InvalidInput for an `unknown_peer`: who answers knows which domains it knows."""
    if request.unknown_peer is not None:
        raise InvalidInput("unknown_peer: give it as peer; the server tells whether its trust domain is known")
    message = pb.AuthorizationAttributes(
        peer="" if request.peer is None else request.peer.uri,
        source_ip=_text(request.source_ip),
        remote_ip=_text(request.remote_ip),
        destination_ip=_text(request.destination_ip),
        port=request.port or 0,
        sni=request.sni,
    )
    for name, values in request.metadata.items():
        ParseDict(dict(values), message.metadata[name])
    http = request.http
    if http is None:
        return message
    message.http.method = http.method
    message.http.path = _bytes(http.path)
    if http.authority is not None:
        message.http.authority = http.authority
    for name, listed in http.headers.items():
        message.http.headers.extend(pb.HttpHeader(name=name, value=_bytes(value)) for value in listed)
    if http.jwt is not None:
        ParseDict(dict(http.jwt), message.http.claims)
        message.http.claims.SetInParent()
    message.http.path_normalized = http.path_normalized
    message.http.path_verbatim = http.path_verbatim
    return message


def _http(message: pb.HttpAttributes, believed: Believed) -> HttpRequest:
    if not message.method:
        raise InvalidInput("http.method: it is missing")
    if len(message.headers) > MOST_HEADERS:
        raise InvalidInput(f"http.headers: there are more than {MOST_HEADERS}")
    headers: dict[str, list[str]] = {}
    for header in message.headers:
        name = header.name.lower()
        if name == "host" or (name.startswith(":") and name != ":scheme"):
            raise InvalidInput(f"http.headers: {name!r} is not given as a header, but as method, path or authority")
        headers.setdefault(name, []).append(_decoded(header.value))
    return HttpRequest(
        message.method,
        _decoded(message.path),
        message.authority if message.HasField("authority") else None,
        {name: tuple(values) for name, values in headers.items()},
        _object(message.claims) if believed.claims and message.HasField("claims") else None,
        message.path_normalized,
        message.path_verbatim,
    )


_spiffe_id = lru_cache(4096)(SpiffeId.parse)  # the same come again


@lru_cache(4096)
def _address(field: str, text: str) -> IpAddress | None:
    try:
        return ip_address(text) if text else None
    except ValueError:
        raise InvalidInput(f"{field}: {text[:60]!r} is not an address") from None


def _text(address: IpAddress | None) -> str:
    return "" if address is None else str(address)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _object(struct: Struct) -> Mapping[str, JsonValue]:
    found: dict[str, Any] = MessageToDict(struct)
    return found
