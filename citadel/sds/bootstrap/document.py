"""Envoy's configuration as plain documents: SDS over a unix socket, mTLS in and out, nothing left open.

The reasons stand in the specification of what Envoy does (docs/envoy.md): SAN matchers always beside the secret, no TLS
resumption, bounded connections, paths normalised before anybody judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from citadel.errors import InvalidInput
from citadel.sds.bootstrap.plan import APPLICATION, SDS_CLUSTER, Address, Document, Inbound, Plan, Protocol, Upstream
from citadel.spiffe import SpiffeId

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_EXT_AUTHZ = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
_HTTP_OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TLS_INSPECTOR = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
_ALPN = ["h2", "http/1.1"]
#: Connections that we make end before the other side would end them: only who sends knows that nothing is under way.
_CLIENT_SHARE = 0.9


def bootstrap(plan: Plan) -> Document:
    """The whole bootstrap, as `envoy -c` takes it."""
    if plan.inbound is None and not plan.upstreams:
        raise InvalidInput("there is nothing to do for this Envoy", mend="name an inbound listener or an upstream")
    listeners = [_inbound(plan, plan.inbound)] if plan.inbound else []
    clusters = [_sds_cluster(plan)]
    if plan.inbound:
        protocol = _http(plan, plan.inbound.protocol)
        clusters.append(_cluster(APPLICATION, plan.inbound.application, protocol))
    for upstream in plan.upstreams:
        listeners.append(_outbound(plan, upstream))
        clusters.append(_upstream_cluster(plan, upstream))
    document: Document = {"node": {"id": plan.node_id, "cluster": plan.trust_domain.name}}
    if plan.admin is not None:
        document["admin"] = {"address": plan.admin.envoy}
    if plan.variant.ads:
        document["dynamic_resources"] = {"ads_config": _api_source(plan)}
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
    if plan.variant.ads:
        document["dynamic_resources"] = {"ads_config": _api_source(plan)}
    return document


def _api_source(plan: Plan) -> Document:
    """Without the back-off Envoy needs 4 to 12 seconds to notice that Citadel is back; with it, 60 ms."""
    return {
        "api_type": plan.variant.api_type,
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
    if ads and plan.variant.ads:
        return {"resource_api_version": "V3", "ads": {}}
    return {"resource_api_version": "V3", "api_config_source": _api_source(plan)}


def _http(plan: Plan, protocol: Protocol, *, mtls: bool = False) -> Document:
    """How Envoy speaks to a cluster. Connections to other Envoys are bounded: an old one keeps its old certificates."""
    options: Document = {"@type": _HTTP_OPTIONS}
    if mtls:
        longest = _seconds(plan.max_connection_seconds * _CLIENT_SHARE)
        options["common_http_protocol_options"] = {"max_connection_duration": longest}
    match protocol:
        case Protocol.AUTO:
            options["auto_config"] = {"http_protocol_options": {}, "http2_protocol_options": {}}
        case Protocol.HTTP1:
            options["explicit_http_config"] = {"http_protocol_options": {}}
        case Protocol.HTTP2:
            options["explicit_http_config"] = {"http2_protocol_options": {}}
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}


def _sds_cluster(plan: Plan) -> Document:
    return _cluster(SDS_CLUSTER, Address.unix(plan.socket), _http(plan, Protocol.HTTP2))


def _cluster(name: str, address: Address, protocol: Document) -> Document:
    return {
        "name": name,
        "type": "STATIC" if address.resolved else "STRICT_DNS",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": protocol,
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
            "common_tls_context": _common_tls(plan, _exact(callers) or anybody, ads=True) | {"alpn_protocols": _ALPN},
        },
    }


def _upstream_socket(plan: Plan, ids: Sequence[SpiffeId]) -> Document:
    """Never over ADS: static clusters start before it does, and Envoy (1.40) crashes (envoyproxy/envoy#15517)."""
    context = _common_tls(plan, _exact(ids), ads=False)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": f"{_TLS}UpstreamTlsContext", "max_session_keys": 0, "common_tls_context": context},
    }


def _upstream_cluster(plan: Plan, upstream: Upstream) -> Document:
    return {
        **_cluster(upstream.name, upstream.address, _http(plan, upstream.protocol, mtls=True)),
        "transport_socket": _upstream_socket(plan, upstream.ids),
    }


def _seconds(value: float) -> str:
    """protobuf's Duration in JSON."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def _connection_manager(
    plan: Plan, cluster: str, prefix: str, route: Document, filters: Sequence[Document] = (), **extra: Any
) -> Document:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": cluster, **route}}]
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
            "http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
            "route_config": {"virtual_hosts": [{"name": cluster, "domains": ["*"], "routes": routes}]},
            **extra,
        },
    }


def _ext_authz(seconds: float) -> Document:
    """Fails closed: what gets no answer is a 503, and `failure_mode_allow` is never there. Headers are sent raw: joined
    by Envoy, repeated ones could not be told apart."""
    service = {"envoy_grpc": {"cluster_name": SDS_CLUSTER}, "timeout": _seconds(seconds)}
    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": _EXT_AUTHZ,
            "transport_api_version": "V3",
            "grpc_service": service,
            "status_on_error": {"code": "ServiceUnavailable"},
            "include_tls_session": True,
            "encode_raw_headers": True,
            "metadata_context_namespaces": ["envoy.filters.http.jwt_authn"],
        },
    }


def _inbound(plan: Plan, inbound: Inbound) -> Document:
    """SANITIZE_SET: what a caller says of its own certificate is thrown away, in plain connections too."""
    manager = _connection_manager(
        plan,
        APPLICATION,
        "inbound",
        {},
        [_ext_authz(inbound.authorize_seconds)] if inbound.authorize_seconds else [],
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
    )
    chain = {"filters": [manager], "transport_socket": _downstream_socket(plan, inbound.callers)}
    listener: Document = {"name": "inbound", "address": inbound.listen.envoy, "filter_chains": [chain]}
    if inbound.permissive:
        plain = {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]}
        inspector = {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": _TLS_INSPECTOR}}
        listener["listener_filters"] = [inspector]
        listener["filter_chains"] = [{"filter_chain_match": {"transport_protocol": "tls"}, **chain}, plain]
    return listener


def _outbound(plan: Plan, upstream: Upstream) -> Document:
    """Only what the other side cannot have seen is tried again."""
    again = {"retry_policy": {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}}
    manager = _connection_manager(plan, upstream.name, f"outbound_{upstream.name}", again)
    return {
        "name": f"outbound_{upstream.name}",
        "address": upstream.listen.envoy,
        "filter_chains": [{"filters": [manager]}],
    }
