"""Generates an Envoy bootstrap that works as it is: SDS over a unix socket, mTLS in and out, nothing left open.

The reasons stand in the specification of what Envoy does (docs/envoy.md): SAN matchers always beside the secret, no TLS
resumption, bounded connections, paths normalised before anybody judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId, TrustDomain

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_HTTP_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
SDS_CLUSTER = "citadel_sds"
Document = dict[str, Any]


class Variant(StrEnum):
    SOTW = "sotw"
    DELTA = "delta"
    ADS = "ads"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port` or `[v6]:port`. Raises InvalidInput."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise InvalidInput(f"{text!r} is no address; expected host:port, as in 127.0.0.1:8080")
        return cls(host.strip("[]"), int(port))

    @property
    def envoy(self) -> Document:
        return {"socket_address": {"address": self.host, "port_value": self.port}}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service to call: a plain listener on `listen` here, mTLS to `address`, which must be one of `ids`."""

    name: str
    listen: Address
    address: Address
    ids: tuple[SpiffeId, ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise InvalidInput(
                f"the upstream {self.name} names no SPIFFE ID: any workload could pose as it",
                mend="say --upstream-id spiffe://...",
            )


@dataclass(frozen=True, slots=True)
class Inbound:
    """Terminate mTLS on `listen` and pass on to the application at `application`.

    `callers` are the SPIFFE IDs let in; empty: everybody of the trust domain.
    """

    listen: Address
    application: Address
    callers: tuple[SpiffeId, ...] = ()


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


def bootstrap(plan: Plan) -> Document:
    """The whole bootstrap, as `envoy -c` takes it."""
    if plan.inbound is None and not plan.upstreams:
        raise InvalidInput("there is nothing to do for this Envoy", mend="name an inbound listener or an upstream")
    listeners = [_inbound(plan, plan.inbound)] if plan.inbound else []
    clusters = [_sds_cluster(plan)]
    if plan.inbound:
        clusters.append(_plain_cluster("application", plan.inbound.application))
    for upstream in plan.upstreams:
        listeners.append(_outbound(plan, upstream))
        clusters.append(_upstream_cluster(plan, upstream))
    document: Document = {"node": {"id": plan.node_id, "cluster": plan.trust_domain.name}}
    if plan.admin is not None:
        document["admin"] = {"address": plan.admin.envoy}
    if plan.variant is Variant.ADS:
        document["dynamic_resources"] = {"ads_config": _api_source("GRPC")}
    document["static_resources"] = {"listeners": listeners, "clusters": clusters}
    return document


def fragment(plan: Plan) -> Document:
    """For people who have a bootstrap of their own: the SDS cluster and the transport sockets."""
    sockets: Document = {}
    if plan.inbound:
        sockets["downstream"] = _downstream_socket(plan, plan.inbound.callers)
    for upstream in plan.upstreams:
        sockets[upstream.name] = _upstream_socket(plan, upstream.ids)
    document: Document = {"clusters": [_sds_cluster(plan)], "transport_sockets": sockets}
    if plan.variant is Variant.ADS:
        document["dynamic_resources"] = {"ads_config": _api_source("GRPC")}
    return document


def _api_source(kind: str) -> Document:
    return {
        "api_type": kind,
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": SDS_CLUSTER,
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}},
                }
            }
        ],
    }


def _sds_config(plan: Plan, *, ads: bool) -> Document:
    """Where secrets come from. Without `ads`, a stream of its own even where all else comes over ADS."""
    match plan.variant:
        case Variant.ADS if ads:
            return {"resource_api_version": "V3", "ads": {}}
        case Variant.DELTA:
            return {"resource_api_version": "V3", "api_config_source": _api_source("DELTA_GRPC")}
        case _:
            return {"resource_api_version": "V3", "api_config_source": _api_source("GRPC")}


def _http2() -> Document:
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _HTTP_OPTIONS,
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }


def _sds_cluster(plan: Plan) -> Document:
    endpoint = {"endpoint": {"address": {"pipe": {"path": plan.socket}}}}
    return {
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _http2(),
        "load_assignment": {"cluster_name": SDS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _plain_cluster(name: str, address: Address) -> Document:
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address.envoy}}]}],
        },
    }


def _common_tls(plan: Plan, matchers: list[Document], *, ads: bool) -> Document:
    """Never a secret alone as validation context: with a matcher beside it, an empty one is refused by Envoy."""
    config = _sds_config(plan, ads=ads)
    parameters = {"tls_minimum_protocol_version": "TLSv1_3" if plan.tls13_only else "TLSv1_2"}
    if plan.tls13_only:
        parameters["tls_maximum_protocol_version"] = "TLSv1_3"
    return {
        "tls_params": parameters,
        "tls_certificate_sds_secret_configs": [{"name": plan.identity, "sds_config": config}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": matchers},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": config},
        },
    }


def _exact(ids: Sequence[SpiffeId]) -> list[Document]:
    return [{"san_type": "URI", "matcher": {"exact": one.uri}} for one in ids]


def _downstream_socket(plan: Plan, callers: Sequence[SpiffeId]) -> Document:
    anybody = [{"san_type": "URI", "matcher": {"prefix": f"{plan.trust_domain.id.uri}/"}}]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TLS}DownstreamTlsContext",
            "require_client_certificate": True,
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
            "common_tls_context": _common_tls(plan, _exact(callers) or anybody, ads=True),
        },
    }


def _upstream_socket(plan: Plan, ids: Sequence[SpiffeId]) -> Document:
    """Never over ADS: static clusters start before it does, and Envoy (1.40) crashes (envoyproxy/envoy#15517)."""
    context = _common_tls(plan, _exact(ids), ads=False)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": f"{_TLS}UpstreamTlsContext", "common_tls_context": context},
    }


def _upstream_cluster(plan: Plan, upstream: Upstream) -> Document:
    return {
        **_plain_cluster(upstream.name, upstream.address),
        "transport_socket": _upstream_socket(plan, upstream.ids),
    }


def _seconds(value: float) -> str:
    return f"{value:g}s"


def _connection_manager(plan: Plan, cluster: str, prefix: str, **extra: Any) -> Document:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _HCM,
            "stat_prefix": prefix,
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
            "common_http_protocol_options": {"max_connection_duration": _seconds(plan.max_connection_seconds)},
            "drain_timeout": _seconds(plan.drain_seconds),
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
            "route_config": {"virtual_hosts": [{"name": cluster, "domains": ["*"], "routes": [route]}]},
            **extra,
        },
    }


def _inbound(plan: Plan, inbound: Inbound) -> Document:
    manager = _connection_manager(
        plan,
        "application",
        "inbound",
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
    )
    chain = {"filters": [manager], "transport_socket": _downstream_socket(plan, inbound.callers)}
    return {"name": "inbound", "address": inbound.listen.envoy, "filter_chains": [chain]}


def _outbound(plan: Plan, upstream: Upstream) -> Document:
    manager = _connection_manager(plan, upstream.name, f"outbound_{upstream.name}")
    return {
        "name": f"outbound_{upstream.name}",
        "address": upstream.listen.envoy,
        "filter_chains": [{"filters": [manager]}],
    }
