"""What becomes of a rule before it is compiled: trust-domain aliases are expanded; on TCP, fields of HTTP dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import is_

from citadel.authz.facts import MeshFacts
from citadel.authz.model import Action, Attribute, Condition, Operation, Rule, Source

CLUSTER_LOCAL = "cluster.local"
"""Stands for the mesh's own trust domain in principals, whatever its name is."""


def with_aliases(rule: Rule, facts: MeshFacts) -> Rule:
    """The rule with each of our trust domains standing for all of them (Istio: trust domain migration).

    Namespaces and service accounts are not touched. Also `not_…` fields are expanded.
    """
    if not _names_principals(rule):
        return rule
    domains = tuple(dict.fromkeys((facts.trust_domain.name, *(alias.name for alias in facts.aliases))))
    sources = tuple(_expand_source(source, domains) for source in rule.sources)
    conditions = tuple(_expand_condition(condition, domains) for condition in rule.conditions)
    if all(map(is_, sources + conditions, rule.sources + rule.conditions)):
        return rule  # as almost always
    return replace(rule, sources=sources, conditions=conditions)


def for_tcp(rule: Rule, action: Action) -> Rule | None:
    """The rule as it stands for a TCP connection; None: it does not.

    An ALLOW rule that uses a field of HTTP is dropped whole, so that less is allowed. Of any other rule only these
    fields are dropped, so that more is denied; a source or operation without fields matches everything.
    """
    if not _uses_http(rule):
        return rule
    if action is Action.ALLOW:
        return None
    return Rule(
        sources=tuple(replace(one, request_principals=(), not_request_principals=()) for one in rule.sources),
        operations=tuple(Operation(ports=one.ports, not_ports=one.not_ports) for one in rule.operations),
        conditions=tuple(one for one in rule.conditions if not one.key.attribute.http_only),
    )


def _uses_http(rule: Rule) -> bool:
    return (
        any(one.request_principals or one.not_request_principals for one in rule.sources)
        or any(
            one.hosts or one.not_hosts or one.methods or one.not_methods or one.paths or one.not_paths
            for one in rule.operations
        )
        or any(one.key.attribute.http_only for one in rule.conditions)
    )


def _names_principals(rule: Rule) -> bool:
    return any(
        one.principals or one.not_principals or one.trust_domains or one.not_trust_domains for one in rule.sources
    ) or any(one.key.attribute in _EXPANDED for one in rule.conditions)


_EXPANDED = (Attribute.SOURCE_PRINCIPAL, Attribute.SOURCE_TRUST_DOMAIN)


def _expand_source(source: Source, domains: tuple[str, ...]) -> Source:
    principals = expand_principals(source.principals, domains)
    not_principals = expand_principals(source.not_principals, domains)
    trust_domains = expand_trust_domains(source.trust_domains, domains)
    not_trust_domains = expand_trust_domains(source.not_trust_domains, domains)
    if (
        principals is source.principals
        and not_principals is source.not_principals
        and trust_domains is source.trust_domains
        and not_trust_domains is source.not_trust_domains
    ):
        return source
    return replace(
        source,
        principals=principals,
        not_principals=not_principals,
        trust_domains=trust_domains,
        not_trust_domains=not_trust_domains,
    )


def _expand_condition(condition: Condition, domains: tuple[str, ...]) -> Condition:
    if condition.key.attribute not in _EXPANDED:
        return condition
    expand = expand_principals if condition.key.attribute is Attribute.SOURCE_PRINCIPAL else expand_trust_domains
    values, not_values = expand(condition.values, domains), expand(condition.not_values, domains)
    if values is condition.values and not_values is condition.not_values:
        return condition
    return replace(condition, values=values, not_values=not_values)


def expand_principals(values: tuple[str, ...], domains: tuple[str, ...]) -> tuple[str, ...]:
    """The same object, where nothing is to be expanded."""
    return _expanded(values, lambda value: _expand_principal(value, domains))


def _expand_principal(value: str, domains: tuple[str, ...]) -> tuple[str, ...]:
    """Only principals of five parts are expanded, and only if their trust domain is one of ours.

    A trust domain with a star (`*-prod`) is one of ours if it fits one; it stays for those that it fits.
    """
    parts = value.split("/")
    domain = parts[0]
    if len(parts) != 5 or domain == "*":
        return (value,)
    if domain != CLUSTER_LOCAL and not any(_fits(one, domain) for one in domains):
        return (value,)
    rest = "/".join(parts[1:])
    return tuple(value if _ends_like(one, domain) else f"{one}/{rest}" for one in domains)


def _fits(domain: str, pattern: str) -> bool:
    return (
        domain == pattern or _ends_like(domain, pattern) or (pattern.endswith("*") and domain.startswith(pattern[:-1]))
    )


def _ends_like(domain: str, pattern: str) -> bool:
    return pattern.startswith("*") and domain.endswith(pattern[1:])


def expand_trust_domains(values: tuple[str, ...], domains: tuple[str, ...]) -> tuple[str, ...]:
    """The same object, where nothing is to be expanded."""
    return _expanded(values, lambda value: domains if value in domains else (value,))


def _expanded(values: tuple[str, ...], expand: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    if not values:
        return values
    expanded = tuple(dict.fromkeys(one for value in values for one in expand(value)))
    return values if expanded == values else expanded
