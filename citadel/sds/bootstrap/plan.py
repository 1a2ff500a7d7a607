"""What an Envoy is to do: listen here, call there, by which identities. Values that parse or raise."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId, TrustDomain

_MAX_SOCKET_PATH = 107  # unix(7): sun_path has 108 with its final zero
_LONGEST_CHECK = 30.0  # seconds
SDS_CLUSTER = "citadel_sds"
APPLICATION = "application"
_OUR_CLUSTERS = frozenset({SDS_CLUSTER, APPLICATION})
Document = dict[str, Any]


class Variant(StrEnum):
    """How Envoy asks for its secrets: state of the world or delta, on streams of their own or on the one of ADS."""

    SOTW = "sotw"
    DELTA = "delta"
    ADS = "ads"
    DELTA_ADS = "delta-ads"

    @property
    def ads(self) -> bool:
        return self in (Variant.ADS, Variant.DELTA_ADS)

    @property
    def api_type(self) -> str:
        """envoy.config.core.v3.ApiConfigSource.ApiType; ADS has the same ones."""
        return "DELTA_GRPC" if self in (Variant.DELTA, Variant.DELTA_ADS) else "GRPC"


class Protocol(StrEnum):
    """The HTTP of a connection. `auto` (mTLS only): what the other side offers by ALPN."""

    AUTO = "auto"
    HTTP1 = "http1"
    HTTP2 = "http2"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect to: a host and a port, or a unix socket (then `port` is 0)."""

    host: str
    port: int = 0
    socket: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`, `[v6]:port` or `unix:/path`. Raises InvalidInput."""
        if text.startswith("unix:"):
            return cls.unix(text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise InvalidInput(f"{text!r} is no address; expected host:port or unix:/path, as in 127.0.0.1:8080")
        if set(host) & set(":[]"):
            if not (host.startswith("[") and host.endswith("]") and _is_ip(host[1:-1])):
                raise InvalidInput(f"{text!r} is no address: an IPv6 address stands in brackets, as in [::1]:8080")
            host = host[1:-1]
        return cls(host, int(port))

    @classmethod
    def unix(cls, path: str) -> Address:
        """The unix socket at `path`. Raises InvalidInput if it cannot be one (unix(7))."""
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise InvalidInput(
                f"{path!r} is no path of a socket: expected an absolute one of {_MAX_SOCKET_PATH} bytes at the most"
            )
        return cls("", socket=path)

    def __str__(self) -> str:
        if self.socket:
            return f"unix:{self.socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def resolved(self) -> bool:
        """Whether there is nothing to look up in DNS."""
        return bool(self.socket) or _is_ip(self.host)

    @property
    def envoy(self) -> Document:
        if self.socket:
            return {"pipe": {"path": self.socket}}
        return {"socket_address": {"address": self.host, "port_value": self.port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service to call: a plain listener on `listen` here, mTLS to `address`, which must be one of `ids`."""

    name: str
    listen: Address
    address: Address
    ids: tuple[SpiffeId, ...]
    protocol: Protocol = Protocol.AUTO

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name) or self.name in _OUR_CLUSTERS:
            raise InvalidInput(
                f"{self.name!r} cannot name an upstream",
                mend=f"use letters, digits, '.', '_' and '-', but not {' or '.join(sorted(_OUR_CLUSTERS))}",
            )
        if not self.ids:
            raise InvalidInput(
                f"the upstream {self.name} names no SPIFFE ID: any workload could pose as it",
                mend="say --upstream-id spiffe://...",
            )


@dataclass(frozen=True, slots=True)
class Inbound:
    """Terminate mTLS on `listen` and pass on to the application at `application`.

    `callers` are the SPIFFE IDs let in; empty: everybody of the trust domain. `permissive`: plain connections are let
    in too, as while a mesh is moved to mTLS; these carry no identity, and `callers` says nothing of them.
    """

    listen: Address
    application: Address
    callers: tuple[SpiffeId, ...] = ()
    permissive: bool = False
    protocol: Protocol = Protocol.HTTP1
    authorize_seconds: float = 0.0
    """Ask Citadel about each request, and let it wait so long for the answer; none is a 503. 0: do not ask."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a bootstrap is made from. Times are in seconds."""

    trust_domain: TrustDomain
    node_id: str
    socket: str
    admin: Address | None = None
    inbound: Inbound | None = None
    upstreams: Sequence[Upstream] = ()
    variant: Variant = Variant.SOTW
    identity: str = "default"
    tls13_only: bool = True
    max_connection_seconds: float = 900.0
    drain_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.max_connection_seconds <= 0 or self.drain_seconds <= 0:
            raise InvalidInput("connections must last and be drained for longer than no time at all")
        if self.inbound and not 0 <= self.inbound.authorize_seconds <= _LONGEST_CHECK:
            raise InvalidInput(f"a check may take {_LONGEST_CHECK:g} seconds at the most")
        listens = [one.listen for one in self.upstreams] + ([self.inbound.listen] if self.inbound else [])
        if twice := next((one for one in listens if listens.count(one) > 1), None):
            raise InvalidInput(f"two listeners have the same address, {twice}")
