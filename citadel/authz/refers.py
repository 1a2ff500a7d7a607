"""What of a connection and of headers a policy refers to. A door that cannot know it must not decide by its absence."""

from __future__ import annotations

from collections.abc import Iterator

from citadel.authz.model import Attribute, AuthorizationPolicy, Operation, Source

_PEER = frozenset([Attribute.SOURCE_NAMESPACE, Attribute.SOURCE_SERVICE_ACCOUNT, Attribute.SOURCE_TRUST_DOMAIN])
_FIELDS = {
    "principals": Attribute.SOURCE_PRINCIPAL,
    "namespaces": Attribute.SOURCE_PRINCIPAL,
    "service_accounts": Attribute.SOURCE_PRINCIPAL,
    "trust_domains": Attribute.SOURCE_PRINCIPAL,
    "ip_blocks": Attribute.SOURCE_IP,
    "remote_ip_blocks": Attribute.REMOTE_IP,
    "ports": Attribute.DESTINATION_PORT,
}


def refers(policy: AuthorizationPolicy) -> frozenset[Attribute]:
    """The attributes of connections, Envoy's metadata, and REQUEST_HEADERS for any header.

    SOURCE_PRINCIPAL stands for all that is read off the peer's identity."""
    return frozenset(_named(policy))


def _named(policy: AuthorizationPolicy) -> Iterator[Attribute]:
    for rule in policy.rules:
        for source in rule.sources:
            yield from _fields(source)
        for operation in rule.operations:
            yield from _fields(operation)
        for condition in rule.conditions:
            attribute = condition.key.attribute
            if attribute in _PEER:
                yield Attribute.SOURCE_PRINCIPAL
            elif not attribute.http_only or attribute is Attribute.REQUEST_HEADERS:
                yield attribute


def _fields(one: Source | Operation) -> Iterator[Attribute]:
    for name, attribute in _FIELDS.items():
        if getattr(one, name, ()) or getattr(one, f"not_{name}", ()):
            yield attribute
