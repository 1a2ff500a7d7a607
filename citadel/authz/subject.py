"""The attributes of one request in the form in which criteria compare them; each worked out once, when needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from itertools import pairwise
from typing import Any, Generic, TypeVar

from citadel.authz.facts import MeshFacts
from citadel.authz.headers import JOINED_HEADERS
from citadel.authz.paths import normalize, without_query
from citadel.authz.patterns import ascii_lower
from citadel.authz.request import HttpRequest, IpAddress, JsonValue, Request
from citadel.spiffe import SCHEME, SpiffeId

T = TypeVar("T")

_SCHEME_LENGTH = len(SCHEME)
_NO_CLAIMS: Mapping[str, JsonValue] = {}
_PSEUDO_HEADERS = {
    ":method": "method",
    ":path": "path_and_query",
    ":authority": "authority",
    "host": "authority",  # Envoy keeps Host as :authority
}


class _once(Generic[T]):  # noqa: N801  (used as a decorator)
    """A property that is worked out at the first look; functools.cached_property takes a lock for it in Python 3.11."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        value = instance.__dict__[self.name] = self.function(instance)
        return value


class Subject:
    """A request, read for `facts`. An attribute that is missing is None, or an empty tuple where there may be several.

    Making one raises BadPath.
    """

    peer: SpiffeId | None
    """What the peer's attributes are read off: its identity, or one of an unknown domain."""
    unknown: bool
    """`peer` is of a domain that is not known: it can only be held against its bearer."""
    principal: str | None
    """The peer's SPIFFE ID without its scheme."""
    peer_path: str | None
    """The path of it: `/ns/…/sa/…`."""
    path: str | None
    """Normalised, without query."""
    path_and_query: str | None
    """As filters see `:path`."""
    method: str | None
    authority: str | None
    port: int | None

    def __init__(self, request: Request, facts: MeshFacts) -> None:
        self.request = request
        self.facts = facts
        self.port = request.port
        peer = request.peer
        self.unknown = False
        if peer is None and request.unknown_peer is not None:
            peer, self.unknown = request.unknown_peer, True
        self.peer = peer
        if peer is None:
            self.principal = self.peer_path = None
        else:
            self.principal = peer.uri[_SCHEME_LENGTH:]
            self.peer_path = peer.path
        self.http = http = request.http
        if http is None:
            self.path = self.path_and_query = self.method = self.authority = None
        else:
            path = http.path if http.path_verbatim else _normal(http, facts)
            self.path_and_query = path or None
            self.path = without_query(path) if path else None
            self.method = http.method
            self.authority = http.authority

    @_once
    def host(self) -> str | None:
        return None if self.authority is None else ascii_lower(self.authority)

    @_once
    def sni(self) -> str:
        return ascii_lower(self.request.sni)

    @_once
    def trust_domain(self) -> str | None:
        """Of a peer whose ID has a path; as in Istio, an ID without one has no trust domain to be matched."""
        peer = self.peer
        return peer.trust_domain.name if peer is not None and peer.path else None

    @_once
    def peer_segments(self) -> tuple[str, ...]:
        return tuple(self.peer_path.split("/")[1:]) if self.peer_path else ()

    @_once
    def namespaces(self) -> tuple[str, ...]:
        """What follows an `ns` in the peer's ID; one, but for odd IDs."""
        return self._following("ns")

    @_once
    def service_accounts(self) -> tuple[str, ...]:
        """What follows an `sa` in the peer's ID, without its namespace."""
        return self._following("sa")

    def _following(self, name: str) -> tuple[str, ...]:
        segments = self.peer_segments
        return tuple(after for before, after in pairwise(segments) if before == name)

    @_once
    def claims(self) -> Mapping[str, JsonValue]:
        jwt = None if self.http is None else self.http.jwt
        return _NO_CLAIMS if jwt is None else jwt

    @_once
    def issuer(self) -> str | None:
        return _text(self.claims.get("iss"))

    @_once
    def user(self) -> str | None:
        """`sub` of the token."""
        return _text(self.claims.get("sub"))

    @_once
    def request_principal(self) -> str | None:
        return None if self.issuer is None or self.user is None else f"{self.issuer}/{self.user}"

    def claim(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of a claim: itself, or its elements. Numbers, booleans and objects are no texts."""
        value = _inside(self.claims, path)
        if isinstance(value, str):
            if len(path) == 1 and path[0] in self.facts.space_delimited_claims:
                return tuple(filter(None, value.split(" ")))
            return (value,)
        if isinstance(value, list):
            return tuple(item for item in value if isinstance(item, str))
        return ()

    def header(self, name: str) -> tuple[str, ...]:
        """The values of a header, its name in lower case, as Envoy's matchers see them: one by one, or joined."""
        if name in _PSEUDO_HEADERS:
            value: str | None = getattr(self, _PSEUDO_HEADERS[name])
            return () if value is None else (value,)
        values = () if self.http is None else self.http.headers.get(name, ())
        if len(values) > 1 and name in JOINED_HEADERS:
            return (",".join(filter(None, values)),)  # Envoy appends nothing for an empty one, no comma either
        return values

    def metadata(self, filter_name: str, key: str) -> JsonValue:
        """The dynamic metadata of a filter; None: there is none."""
        return self.request.metadata.get(filter_name, {}).get(key)

    @_once
    def source_bits(self) -> str | None:
        return _bits(self.request.source_ip)

    @_once
    def remote_bits(self) -> str | None:
        return _bits(self.request.remote_ip)

    @_once
    def destination_bits(self) -> str | None:
        return _bits(self.request.destination_ip)


def _normal(http: HttpRequest, facts: MeshFacts) -> str:
    return normalize(http.path, facts.path_normalization, seen=http.path_normalized)


def address_bits(version: int, number: int, length: int) -> str:
    """The first `length` bits of an address, as text behind its version: a network is then a prefix of its members."""
    width = 32 if version == 4 else 128
    return f"{version}{number:0{width}b}"[: length + 1]


def _bits(address: IpAddress | None) -> str | None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # as Envoy, for a socket that serves both
    return None if address is None else address_bits(address.version, int(address), address.max_prefixlen)


def _inside(value: Any, path: tuple[str, ...]) -> JsonValue:
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    found: JsonValue = value
    return found


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None
