"""What is asked: a request as it came over the wire, and the workload that it is for. Both plain values.

Text that comes as bytes (paths, header values, SNI) is UTF-8; bytes that are not are kept with `surrogateescape`, so
that nothing is lost and nothing compares equal by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from citadel.authz.model import TargetKind
from citadel.spiffe import SpiffeId, TrustDomain

IpAddress = IPv4Address | IPv6Address
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""What `json.loads` gives."""

_NOTHING: Mapping[str, tuple[str, ...]] = {}
_NO_METADATA: Mapping[str, Mapping[str, JsonValue]] = {}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The HTTP half of a request; a gRPC call is one too (POST to `/package.Service/Method`)."""

    method: str
    """`:method`, as sent."""
    path: str
    """`:path` as sent: with query, not normalised, never decoded. The engine normalises it. Empty: absent (CONNECT)."""
    authority: str | None = None
    """`:authority` or Host, as sent, port included. None: absent (not the same as empty)."""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    """Names in lower case; each occurrence of a header is a value of its own, in order.

    Pseudo-headers are not repeated here: conditions on `:method`, `:path`, `:authority` and `host` read the fields
    above. `:scheme` is an ordinary entry if it is known.
    """
    jwt: Mapping[str, JsonValue] | None = None
    """The payload of the token, verified as RequestAuthentication demands; None: no verified token."""
    path_normalized: bool = False
    """A listener has normalised `path` before (normalising again changes nothing, but finds what must not be left)."""
    path_verbatim: bool = False
    """`path` is no path that an upstream will read, but a name in the form of one: it is matched as it is."""

    def __post_init__(self) -> None:
        """Raises TypeError: `headers` is no mapping."""
        if not isinstance(self.headers, dict) and not isinstance(self.headers, Mapping):  # the first is the quick one
            kind = type(self.headers).__name__
            raise TypeError(f'headers: expected a mapping, as {{"accept": ("text/html",)}}; not a {kind}')


@dataclass(frozen=True, slots=True)
class Request:
    """One request, or with `http=None` one TCP connection. What is None is not known, and matches no value."""

    port: int | None
    """The workload's port, after any redirection (`destination.port`)."""
    peer: SpiffeId | None = None
    """The identity that the peer proved by mTLS; None: plaintext, or no valid SPIFFE ID of a domain that is known."""
    source_ip: IpAddress | None = None
    """The direct peer's address."""
    remote_ip: IpAddress | None = None
    """The original client's address; who fills this in has counted the trusted proxies."""
    destination_ip: IpAddress | None = None
    sni: str = ""
    """The server name of the TLS hello, in lower case; empty if there was none."""
    http: HttpRequest | None = None
    metadata: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=lambda: _NO_METADATA)
    """Dynamic metadata by filter name (`envoy.filters.http.foo`), for `experimental.envoy.filters.*` conditions."""
    unknown_peer: SpiffeId | None = None
    """Where `peer` is None: the identity that the peer showed, of a trust domain that the workload does not know.

    It is held against its bearer and never counts for it: no ALLOW rule matches by it, every other rule that names it
    does, and it is no exception to one (`CompiledRule.holds`)."""


def known_or_unknown(
    peer: SpiffeId | None, trust_domains: frozenset[TrustDomain]
) -> tuple[SpiffeId | None, SpiffeId | None]:
    """The `peer` and the `unknown_peer` of a request, by the trust domains whose identities count."""
    if peer is None or peer.trust_domain in trust_domains:
        return peer, None
    return None, peer


class WorkloadKind(StrEnum):
    """What a proxy stands in front of.

    A classic ingress gateway that is chosen by labels is WORKLOAD: `targetRefs` never apply to it.
    """

    WORKLOAD = "workload"
    GATEWAY = "gateway"
    """A Gateway of the Kubernetes Gateway API: `targetRefs`, and selectors for policies without them."""
    WAYPOINT = "waypoint"
    """An ambient waypoint: `targetRefs` only."""


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """A Service or ServiceEntry that a waypoint serves."""

    namespace: str
    name: str
    kind: TargetKind = TargetKind.SERVICE


@dataclass(frozen=True, slots=True)
class Workload:
    """Whose policies are asked: they are those of its namespace and of the root namespace that select it."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: WorkloadKind = WorkloadKind.WORKLOAD
    gateway: str = ""
    """The Gateway's name, in `namespace`, for a gateway or waypoint."""
    gateway_class: str = ""
    """The Gateway's class (`istio-waypoint`, say)."""
    services: tuple[ServiceRef, ...] = ()
    """For a waypoint: the services that the request is addressed to; a policy attached to any of them applies."""
