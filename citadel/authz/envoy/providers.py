"""CUSTOM policies as a pair of filters: RBAC in the shadow says whether one matched, and ext_authz asks if it did.

It fails closed: never `failure_mode_allow`, a timeout that is written out, and a status of its own for faults.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz, HttpService
from envoy.extensions.filters.network.ext_authz.v3.ext_authz_pb2 import ExtAuthz as NetworkExtAuthz
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher, StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.v3.http_status_pb2 import StatusCode
from google.protobuf.duration_pb2 import Duration

from citadel.authz.envoy.clusters import Cluster
from citadel.authz.envoy.strings import CannotCompile, checked, header_name, host_name, of_patterns, plain, regex
from citadel.authz.facts import ExtensionProvider, ProviderProtocol
from citadel.authz.patterns import Patterns

HTTP_RBAC, NETWORK_RBAC = "envoy.filters.http.rbac", "envoy.filters.network.rbac"


def shadow_prefix(provider: str) -> str:
    """Before the keys of the metadata in which the RBAC filter leaves what it found."""
    return f"citadel_custom_{provider}_"


def cluster(provider: ExtensionProvider) -> Cluster:
    host = host_name(provider.service.rpartition("/")[2])
    grpc = provider.protocol is ProviderProtocol.GRPC
    return Cluster(f"ext_authz|{provider.protocol}|{provider.port}|{host}", host, provider.port, http2=grpc)


def http(provider: ExtensionProvider) -> ExtAuthz:
    made = ExtAuthz(transport_api_version="V3", filter_enabled_metadata=_matched(HTTP_RBAC, provider.name))
    made.status_on_error.code = _fault(provider)
    if provider.max_request_bytes:
        made.with_request_body.max_request_bytes = provider.max_request_bytes
        made.with_request_body.allow_partial_message = provider.allow_partial_message
        made.with_request_body.pack_as_bytes = provider.pack_as_bytes
    if provider.protocol is ProviderProtocol.GRPC:
        made.grpc_service.envoy_grpc.cluster_name = cluster(provider).name
        made.grpc_service.envoy_grpc.authority = cluster(provider).host
        made.grpc_service.timeout.CopyFrom(_timeout(provider))
        made.include_tls_session = True
    else:
        made.http_service.CopyFrom(_http_service(provider))
        if provider.include_request_headers_in_check:
            made.allowed_headers.CopyFrom(_headers(provider.include_request_headers_in_check))
    return made


def network(provider: ExtensionProvider) -> NetworkExtAuthz:
    made = NetworkExtAuthz(
        stat_prefix=shadow_prefix(provider.name),
        transport_api_version="V3",
        filter_enabled_metadata=_matched(NETWORK_RBAC, provider.name),
        include_tls_session=True,
    )
    made.grpc_service.envoy_grpc.cluster_name = cluster(provider).name
    made.grpc_service.envoy_grpc.authority = cluster(provider).host
    made.grpc_service.timeout.CopyFrom(_timeout(provider))
    return made


def _http_service(provider: ExtensionProvider) -> HttpService:
    upstream = cluster(provider)
    if provider.path_prefix and not provider.path_prefix.startswith("/"):
        raise CannotCompile(f"extension provider {provider.name!r}: its path prefix does not start with /")
    made = HttpService(path_prefix=provider.path_prefix and plain(provider.path_prefix))
    made.server_uri.uri = f"http://{upstream.host}:{upstream.port}"
    made.server_uri.cluster = upstream.name
    made.server_uri.timeout.CopyFrom(_timeout(provider))
    for name, value in provider.include_additional_headers_in_check:
        text = plain(value).replace("%", "%%") if value else ""  # Envoy would read %...% as one of its commands
        made.authorization_request.headers_to_add.append(HeaderValue(key=header_name(name), value=text))
    answer = made.authorization_response
    for field, names in (
        (answer.allowed_upstream_headers, provider.headers_to_upstream_on_allow),
        (answer.allowed_client_headers_on_success, provider.headers_to_downstream_on_allow),
        (answer.allowed_client_headers, provider.headers_to_downstream_on_deny),
    ):
        if names:
            field.CopyFrom(_headers(names))
    return made


def _headers(names: Iterable[str]) -> ListStringMatcher:
    patterns = Patterns.parse(map(plain, names))
    every = [regex(".*")] if patterns.present else list(of_patterns(patterns, ignore_case=True))
    return ListStringMatcher(patterns=every)


def _fault(provider: ExtensionProvider) -> int:
    """A status that Envoy knows and that is a refusal. Raises CannotCompile."""
    if provider.status_on_error < 400 or provider.status_on_error not in StatusCode.values():
        raise CannotCompile(
            f"extension provider {provider.name!r}: status_on_error is {provider.status_on_error}",
            mend="use an error of HTTP, such as 503",
        )
    return provider.status_on_error


def _timeout(provider: ExtensionProvider) -> Duration:
    if provider.timeout <= timedelta(0):
        raise CannotCompile(f"extension provider {provider.name!r}: its timeout is not positive")
    made = Duration()
    made.FromTimedelta(provider.timeout)
    return made


def _matched(filter_name: str, provider: str) -> MetadataMatcher:
    key = f"{shadow_prefix(provider)}shadow_effective_policy_id"
    named = ValueMatcher(string_match=StringMatcher(prefix="ns["))
    return MetadataMatcher(filter=filter_name, path=[MetadataMatcher.PathSegment(key=checked(key))], value=named)
