"""A rule's fields one by one, wherever they are written: sources, operations and conditions look at the same things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from citadel.authz.load.tree import Path
from citadel.authz.model import Attribute, AuthorizationPolicy, ConditionKey, Operation, Rule, Source

# field as written, the Python field, and what it looks at
SOURCE = (
    ("principals", "principals", Attribute.SOURCE_PRINCIPAL.value),
    ("requestPrincipals", "request_principals", Attribute.REQUEST_PRINCIPAL.value),
    ("namespaces", "namespaces", Attribute.SOURCE_NAMESPACE.value),
    ("serviceAccounts", "service_accounts", Attribute.SOURCE_SERVICE_ACCOUNT.value),
    ("trustDomains", "trust_domains", Attribute.SOURCE_TRUST_DOMAIN.value),
    ("ipBlocks", "ip_blocks", Attribute.SOURCE_IP.value),
    ("remoteIpBlocks", "remote_ip_blocks", Attribute.REMOTE_IP.value),
)
OPERATION = (
    ("hosts", "hosts", "hosts"),
    ("ports", "ports", Attribute.DESTINATION_PORT.value),
    ("methods", "methods", "methods"),
    ("paths", "paths", "paths"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A list of values in a policy."""

    path: Path
    """Of the list."""
    looks_at: str
    """`source.principal`, `request.headers[x]`, `hosts`, `methods`, `paths`…"""
    key: ConditionKey | None
    """For a condition."""
    values: tuple[str, ...]
    negated: bool

    @property
    def http_only(self) -> bool:
        return self.looks_at in ("hosts", "methods", "paths") or self.looks_at.startswith("request.")


@dataclass(frozen=True, slots=True)
class Part:
    """A source, an operation, or the conditions of a rule: fields that must all hold."""

    path: Path
    fields: tuple[Field, ...]

    def positive(self) -> dict[str, Field]:
        return {field.looks_at: field for field in self.fields if not field.negated}


def parts(rule: Rule, path: Path) -> Iterator[Part]:
    for index, source in enumerate(rule.sources):
        at = (*path, "from", index, "source")
        yield Part(at, tuple(_fields(source, SOURCE, at)))
    for index, operation in enumerate(rule.operations):
        at = (*path, "to", index, "operation")
        yield Part(at, tuple(_fields(operation, OPERATION, at)))
    if rule.conditions:
        yield Part((*path, "when"), tuple(_conditions(rule, path)))


def rules(policy: AuthorizationPolicy) -> Iterator[tuple[Path, Rule]]:
    for index, rule in enumerate(policy.rules):
        yield ("spec", "rules", index), rule


def _fields(value: Source | Operation, known: tuple[tuple[str, str, str], ...], path: Path) -> Iterator[Field]:
    for written, name, looks_at in known:
        for prefix, negated in (("", False), ("not_", True)):
            values = getattr(value, prefix + name)
            if values:
                shown = f"not{written[0].upper()}{written[1:]}" if negated else written
                yield Field((*path, shown), looks_at, None, tuple(map(str, values)), negated)


def _conditions(rule: Rule, path: Path) -> Iterator[Field]:
    for index, condition in enumerate(rule.conditions):
        at = (*path, "when", index)
        if condition.values:
            yield Field((*at, "values"), str(condition.key), condition.key, condition.values, False)
        if condition.not_values:
            yield Field((*at, "notValues"), str(condition.key), condition.key, condition.not_values, True)
