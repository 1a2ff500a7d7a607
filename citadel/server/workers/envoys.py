"""What the Envoy of a worker is told: mTLS by what the server publishes, bounds, and pyvoy behind them. Pure.

It has no admin interface (pyvoy's own configuration opens one to everybody on the machine). The client's certificate
reaches the application in X-Forwarded-Client-Cert, which nobody else can send: SANITIZE_SET.
"""

from __future__ import annotations

from typing import Any

from citadel.authz.doors.over_asgi import MOST_BYTES
from citadel.config.values import ListenAddress
from citadel.server.workers.published import Published

_TYPE = "type.googleapis.com/envoy"
_MONITORS = f"{_TYPE}.extensions.resource_monitors"
CERTIFICATE, ROOTS = "certificate", "roots"
_STREAMS = 128
_BUFFER = 1 << 20
_MOST_BODY = MOST_BYTES + 5  # gRPC's prefix


def envoy_config(
    address: ListenAddress, connections: int, published: Published, filters: list[dict[str, Any]]
) -> dict[str, Any]:
    """`filters`: the HTTP filters that end in pyvoy's. `connections`: of this process."""
    return {
        "node": {"id": "citadel-worker", "cluster": "citadel"},
        "static_resources": {"listeners": [_listener(address, published, filters)]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": connections,
                    },
                }
            ]
        },
    }


def _listener(address: ListenAddress, published: Published, filters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "ext_authz",
        "address": {"socket_address": {"address": address.host, "port_value": address.port}},
        "enable_reuse_port": True,  # the workers share the address
        "per_connection_buffer_limit_bytes": _BUFFER,
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "10s",
                "transport_socket": _tls(published),
                "filters": [{"name": "http", "typed_config": _http(filters)}],
            }
        ],
    }


def _http(filters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ext_authz",
        "codec_type": "HTTP2",
        "http2_protocol_options": {"max_concurrent_streams": _STREAMS},
        "common_http_protocol_options": {"idle_timeout": "300s", "max_connection_duration": "600s"},
        "stream_idle_timeout": "30s",
        "request_timeout": "10s",
        "generate_request_id": False,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"cert": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
        "http_filters": [_whole_messages(), *filters],
    }


def _whole_messages() -> dict[str, Any]:
    """Python sees a request when it has come whole: slow ones, and those that are too large, wait and end in Envoy."""
    kind = f"{_TYPE}.extensions.filters.http.buffer.v3.Buffer"
    return {"name": "buffer", "typed_config": {"@type": kind, "max_request_bytes": _MOST_BODY}}


def _tls(published: Published) -> dict[str, Any]:
    def secret(name: str, path: object) -> dict[str, Any]:
        source = {"path": str(path), "watched_directory": {"path": str(published.folder)}}
        return {"name": name, "sds_config": {"path_config_source": source, "resource_api_version": "V3"}}

    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "disable_stateless_session_resumption": True,  # a session that goes on is of a client nobody verified again
            "disable_stateful_session_resumption": True,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [secret(CERTIFICATE, published.certificate)],
                "validation_context_sds_secret_config": secret(ROOTS, published.roots),
            },
        },
    }


def certificate_secret(key: bytes, chain: bytes) -> dict[str, Any]:
    """PEM."""
    return _secret(CERTIFICATE, "tls_certificate", {"certificate_chain": _inline(chain), "private_key": _inline(key)})


def roots_secret(roots: bytes) -> dict[str, Any]:
    """PEM."""
    return _secret(ROOTS, "validation_context", {"trusted_ca": _inline(roots)})


def _secret(name: str, field: str, content: dict[str, Any]) -> dict[str, Any]:
    kind = f"{_TYPE}.extensions.transport_sockets.tls.v3.Secret"
    return {"resources": [{"@type": kind, "name": name, field: content}]}


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode("ascii")}
