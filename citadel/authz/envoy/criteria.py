"""One field of a rule as what Envoy's RBAC filter asks: a principal (who calls) or a permission (what is called).

Source: envoy.config.rbac.v3 (config/rbac/v3/rbac.proto). A `not…` field is the negation of its positive form, which
does not match where the attribute is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.rbac.principals.mtls_authenticated.v3.mtls_authenticated_pb2 import Config as MtlsAuthenticated
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher

from citadel.authz.criteria import (
    AddressCriterion,
    ClaimCriterion,
    Criterion,
    HeaderCriterion,
    MetadataCriterion,
    NamespaceCriterion,
    PathCriterion,
    PortCriterion,
    RequestPrincipalCriterion,
    ServiceAccountCriterion,
    TextCriterion,
    TrustDomainCriterion,
)
from citadel.authz.dimensions import DESTINATION_IP, HOST, METHOD, PRINCIPAL, REMOTE_IP, SNI, SOURCE_IP
from citadel.authz.envoy import identity
from citadel.authz.envoy.strings import CannotCompile, checked, escaped, header_name, of_patterns, one_or_any, regex
from citadel.authz.patterns import Patterns
from citadel.authz.template import ONE, REST, PathTemplate

JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "payload"
"""Under this key jwt_authn leaves what a verified token says, in its own dynamic metadata."""


def matcher(criterion: Criterion) -> Principal | Permission:
    """What Envoy asks for one field. Raises CannotCompile."""
    try:
        positive = _positive(criterion)
    except CannotCompile as error:
        raise CannotCompile(f"{criterion.field}: {error.message}", mend=error.mend) from None
    if not criterion.negated:
        return positive
    return Principal(not_id=positive) if isinstance(positive, Principal) else Permission(not_rule=positive)


def any_principal(principals: Iterable[Principal]) -> Principal:
    return one_or_any(principals, lambda several: Principal(or_ids=Principal.Set(ids=several)))


def any_permission(permissions: Iterable[Permission]) -> Permission:
    return one_or_any(permissions, lambda several: Permission(or_rules=Permission.Set(rules=several)))


def header(name: str, match: StringMatcher) -> Permission:
    return Permission(header=HeaderMatcher(name=header_name(name, pseudo=True), string_match=match))


def present(name: str) -> Permission:
    return Permission(header=HeaderMatcher(name=header_name(name, pseudo=True), present_match=True))


def url_path(match: StringMatcher) -> Permission:
    """Of the path without its query."""
    return Permission(url_path=PathMatcher(path=match))


def _positive(criterion: Criterion) -> Principal | Permission:
    match criterion:
        case TextCriterion():
            return _text(criterion)
        case PathCriterion():
            return any_permission(map(url_path, _paths(criterion)))
        case PortCriterion():
            return any_permission(Permission(destination_port=number) for number in sorted(criterion.numbers))
        case AddressCriterion():
            return _address(criterion)
        case NamespaceCriterion():
            return any_principal(map(_peer, identity.namespaces(criterion)))
        case ServiceAccountCriterion():
            return any_principal(map(_peer, identity.service_accounts(criterion)))
        case TrustDomainCriterion():
            return any_principal(map(_peer, identity.trust_domains(criterion)))
        case RequestPrincipalCriterion():
            return any_principal(_request_principal(*pair) for pair in criterion.pairs)
        case ClaimCriterion():
            matchers = list(of_patterns(criterion.patterns))
            return _metadata(JWT_FILTER, (JWT_PAYLOAD, *criterion.claim), [*_texts(matchers), *_items(matchers)])
        case HeaderCriterion():
            return _header(criterion)
        case MetadataCriterion():
            texts, items = of_patterns(criterion.texts), of_patterns(criterion.items)
            return _metadata(criterion.filter, (criterion.key,), [*_texts(texts), *_items(items)])
        case _:
            raise CannotCompile(f"{type(criterion).__name__} has no counterpart in Envoy")


def _text(criterion: TextCriterion) -> Principal | Permission:
    if criterion.dimension == PRINCIPAL:
        return any_principal(map(_peer, identity.principals(criterion.patterns)))
    if criterion.dimension == HOST:
        return _named(":authority", criterion.patterns, ignore_case=True)
    if criterion.dimension == METHOD:
        return _named(":method", criterion.patterns)
    if criterion.dimension == SNI:
        return any_permission(Permission(requested_server_name=one) for one in of_patterns(criterion.patterns))
    raise CannotCompile(f"{criterion.dimension.name} has no counterpart in Envoy")


def _named(name: str, patterns: Patterns, *, ignore_case: bool = False) -> Permission:
    """A header, where `*` means that it is there, even if it is empty."""
    if patterns.present:
        return present(name)
    return any_permission(header(name, one) for one in of_patterns(patterns, ignore_case=ignore_case))


def _header(criterion: HeaderCriterion) -> Permission:
    return _named(":authority" if criterion.name == "host" else criterion.name, criterion.patterns)


def _paths(criterion: PathCriterion) -> Iterator[StringMatcher]:
    yield from of_patterns(criterion.patterns)
    yield from map(_template, criterion.templates)


def _template(template: PathTemplate) -> StringMatcher:
    """As a regex: Envoy's own template matcher knows too few characters, and aborts on some templates."""
    parts = {ONE: "[^/]+", REST: ".*"}
    segments = (parts.get(segment) or escaped(segment) for segment in template.text.split("/"))
    return regex(f"(?s){'/'.join(segments)}")


def _address(criterion: AddressCriterion) -> Principal | Permission:
    ranges = [_range(value) for value in criterion.values]
    if criterion.dimension == DESTINATION_IP:
        return any_permission(Permission(destination_ip=one) for one in ranges)
    if criterion.dimension == SOURCE_IP:
        return any_principal(Principal(direct_remote_ip=one) for one in ranges)
    if criterion.dimension == REMOTE_IP:
        return any_principal(Principal(remote_ip=one) for one in ranges)
    raise CannotCompile(f"{criterion.dimension.name} has no counterpart in Envoy")


def _range(value: str) -> CidrRange:
    network = ip_network(value)
    made = CidrRange(address_prefix=str(network.network_address))
    made.prefix_len.value = network.prefixlen
    return made


def _peer(match: StringMatcher) -> Principal:
    """A peer whose certificate was verified and has such a URI (envoy.rbac.principals.mtls_authenticated)."""
    config = MtlsAuthenticated(
        san_matcher=SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.SanType.Value("URI"), matcher=match)
    )
    custom = TypedExtensionConfig(name="envoy.rbac.principals.mtls_authenticated")
    custom.typed_config.Pack(config)
    return Principal(custom=custom)


def _request_principal(issuer: Patterns, user: Patterns) -> Principal:
    both = [
        _metadata(JWT_FILTER, (JWT_PAYLOAD, claim), list(_texts(of_patterns(patterns))))
        for claim, patterns in (("iss", issuer), ("sub", user))
    ]
    return Principal(and_ids=Principal.Set(ids=both))


def _texts(matchers: Iterable[StringMatcher]) -> Iterator[ValueMatcher]:
    return (ValueMatcher(string_match=one) for one in matchers)


def _items(matchers: Iterable[StringMatcher]) -> Iterator[ValueMatcher]:
    """Lists with such an element."""
    return (ValueMatcher(list_match=ListMatcher(one_of=ValueMatcher(string_match=one))) for one in matchers)


def _metadata(filter_name: str, path: tuple[str, ...], values: list[ValueMatcher]) -> Principal:
    segments = [MetadataMatcher.PathSegment(key=_some(part)) for part in path]
    value = one_or_any(values, lambda several: ValueMatcher(or_match=OrMatcher(value_matchers=several)))
    made = Principal()
    made.sourced_metadata.metadata_matcher.CopyFrom(
        MetadataMatcher(filter=_some(filter_name), path=segments, value=value)
    )
    return made


def _some(name: str) -> str:
    if not name:
        raise CannotCompile("a name in brackets is empty")
    return checked(name)
