"""An AuthorizationPolicy's `spec`, read and checked as Istio's CRD and webhook check it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from citadel.authz.load import values
from citadel.authz.load.findings import Findings, Refusal
from citadel.authz.load.shared import selector, targets
from citadel.authz.load.tree import Path, Value
from citadel.authz.model import (
    Action,
    Attribute,
    AuthorizationPolicy,
    Condition,
    ConditionKey,
    Metadata,
    Operation,
    Rule,
    Source,
)

MAX_RULES = 512
MAX_SOURCES = 512
MAX_ACCOUNTS = 16

_SPEC = ("selector", "targetRefs", "targetRef", "action", "provider", "rules")
_RULE = ("from", "to", "when")
_CONDITION = ("key", "values", "notValues")
_ACTIONS = tuple(action.value for action in Action)
_NULL_RULES = {"rules": "the policy never matches"}
_NULL_RULE = {
    "from": "the rule holds for every source",
    "to": "the rule holds for every operation",
    "when": "the rule has no conditions",
}

_Read = Callable[[str], Any]
# field as written -> (field of Source, how each text is read, or None where it is taken as it is)
_SOURCE: dict[str, tuple[str, _Read | None]] = {
    "principals": ("principals", None),
    "notPrincipals": ("not_principals", None),
    "requestPrincipals": ("request_principals", None),
    "notRequestPrincipals": ("not_request_principals", None),
    "namespaces": ("namespaces", None),
    "notNamespaces": ("not_namespaces", None),
    "serviceAccounts": ("service_accounts", None),
    "notServiceAccounts": ("not_service_accounts", None),
    "trustDomains": ("trust_domains", values.trust_domain),
    "notTrustDomains": ("not_trust_domains", values.trust_domain),
    "ipBlocks": ("ip_blocks", values.network),
    "notIpBlocks": ("not_ip_blocks", values.network),
    "remoteIpBlocks": ("remote_ip_blocks", values.network),
    "notRemoteIpBlocks": ("not_remote_ip_blocks", values.network),
}
_OPERATION: dict[str, tuple[str, _Read | None]] = {
    "hosts": ("hosts", None),
    "notHosts": ("not_hosts", None),
    "ports": ("ports", values.port),
    "notPorts": ("not_ports", values.port),
    "methods": ("methods", None),
    "notMethods": ("not_methods", None),
    "paths": ("paths", values.path),
    "notPaths": ("not_paths", values.path),
}
_ACCOUNT_FIELDS = ("serviceAccounts", "notServiceAccounts")
_NOT_WITH_ACCOUNTS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_ONLY_ADDRESSES = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")  # what CUSTOM may look at
_TRUST_DOMAINS = ("trustDomains", "notTrustDomains")
_TCP_SOURCE = (*_ONLY_ADDRESSES, *_NOT_WITH_ACCOUNTS, *_ACCOUNT_FIELDS, *_TRUST_DOMAINS)  # what a connection has
_NOT_FOR_CUSTOM = frozenset(
    {
        Attribute.SOURCE_NAMESPACE,
        Attribute.SOURCE_SERVICE_ACCOUNT,
        Attribute.SOURCE_TRUST_DOMAIN,
        Attribute.SOURCE_PRINCIPAL,
        Attribute.REQUEST_PRINCIPAL,
        Attribute.REQUEST_AUDIENCES,
        Attribute.REQUEST_PRESENTER,
        Attribute.REQUEST_CLAIMS,
    }
)
_BEFORE_IDENTITY = "a CUSTOM policy is asked before identities and tokens are known, and cannot use it"


def authorization_policy(
    findings: Findings, spec: Value, path: Path, metadata: Metadata, *, dry_run: bool
) -> AuthorizationPolicy:
    fields = findings.mapping(spec, path, _SPEC, "the spec of an AuthorizationPolicy", null=_NULL_RULES)
    action = Action.ALLOW
    if "action" in fields:
        action = Action(findings.one_of(fields["action"], (*path, "action"), _ACTIONS) or Action.ALLOW)
    return AuthorizationPolicy(
        metadata=metadata,
        action=action,
        rules=_rules(findings, fields, path, action, metadata.name.namespace),
        provider=_provider(findings, fields, path, action),
        selector=selector(findings, fields["selector"], (*path, "selector")) if "selector" in fields else None,
        target_refs=targets(findings, fields, path),
        dry_run=dry_run,
    )


def _provider(findings: Findings, fields: dict[str, Value], path: Path, action: Action) -> str | None:
    at = (*path, "provider")
    if "provider" not in fields:
        if action is Action.CUSTOM:
            findings.mistake(path, "a CUSTOM policy needs provider.name, the extension provider that is asked")
        return None
    if action is not Action.CUSTOM:
        findings.mistake(at, f"only a CUSTOM policy has a provider, and this one is {action}")
    inner = findings.mapping(fields["provider"], at, ("name",), "a provider")
    if "name" not in inner:
        findings.mistake(at, "it has no name")
        return None
    return findings.full_text(inner["name"], (*at, "name"))


def _rules(
    findings: Findings, fields: dict[str, Value], path: Path, action: Action, namespace: str
) -> tuple[Rule, ...]:
    at = (*path, "rules")
    items = findings.items(fields.get("rules", []), at, "rules", most=MAX_RULES)
    if not fields.get("rules") and action in (Action.DENY, Action.CUSTOM):
        findings.mistake(at, f"a {action} policy without rules never matches; write - {{}} for one that always does")
    reader = _RuleReader(findings, action, namespace)
    return tuple(reader.rule(item, (*at, index)) for index, item in enumerate(items))


class _RuleReader:
    """Reads the rules of one policy."""

    def __init__(self, findings: Findings, action: Action, namespace: str) -> None:
        self._findings = findings
        self._action = action
        self._account = partial(values.service_account, namespace=namespace)

    def rule(self, value: Value, path: Path) -> Rule:
        findings = self._findings
        if value is None:
            findings.mistake(path, "the rule is null; write {} for a rule that always matches")
            return Rule()
        fields = findings.mapping(value, path, _RULE, "a rule", null=_NULL_RULE)
        sources = self._alternatives(fields, "from", "source", path, self._source, MAX_SOURCES)
        operations = self._alternatives(fields, "to", "operation", path, self._operation, 0)
        at = (*path, "when")
        when = findings.items(fields.get("when", []), at, "conditions")
        if self._action is Action.DENY:
            self._warn_of_tcp(fields, path)
        conditions = [self._condition(one, (*at, index)) for index, one in enumerate(when)]
        return Rule(sources, operations, tuple(one for one in conditions if one is not None))

    def _alternatives(
        self, fields: dict[str, Value], field: str, inner: str, path: Path, read: Callable[..., Any], most: int
    ) -> tuple[Any, ...]:
        """The sources of `from`, or the operations of `to`."""
        if field not in fields:
            return ()
        at = (*path, field)
        items = self._findings.items(fields[field], at, f"items with {inner}", most=most)
        if fields[field] == []:
            self._findings.mistake(at, f"it is empty; leave it out for any {inner}")
        found = []
        for index, item in enumerate(items):
            one = self._findings.mapping(item, (*at, index), (inner,), f"an item of {field}")
            if inner in one:
                found.append(read(one[inner], (*at, index, inner)))
            elif isinstance(item, dict) and set(item) <= {inner}:
                self._findings.mistake((*at, index), f"it has no {inner}; leave {field} out for any {inner}")
        return tuple(found)

    def _source(self, value: Value, path: Path) -> Source:
        fields = self._findings.mapping(value, path, _SOURCE, "a source")
        accounts = [field for field in _ACCOUNT_FIELDS if field in fields]
        if accounts and (others := [field for field in _NOT_WITH_ACCOUNTS if field in fields]):
            self._findings.mistake((*path, others[0]), f"{accounts[0]} cannot be together with {' or '.join(others)}")
        if self._action is Action.CUSTOM:
            for field in fields:
                if field not in _ONLY_ADDRESSES:
                    self._findings.mistake((*path, field), _BEFORE_IDENTITY)
        return Source(**self._lists(value, fields, _SOURCE, path, "source"))

    def _operation(self, value: Value, path: Path) -> Operation:
        fields = self._findings.mapping(value, path, _OPERATION, "an operation")
        return Operation(**self._lists(value, fields, _OPERATION, path, "operation"))

    def _lists(
        self,
        value: Value,
        fields: dict[str, Value],
        known: dict[str, tuple[str, _Read | None]],
        path: Path,
        what: str,
    ) -> dict[str, Any]:
        before = len(self._findings.mistakes)
        made: dict[str, Any] = {}
        for field, inner in fields.items():
            attribute, read = known[field]
            at = (*path, field)
            if field in _ACCOUNT_FIELDS:
                read = self._account
                texts = self._findings.texts(inner, at, most=MAX_ACCOUNTS)
            else:
                texts = self._findings.texts(inner, at)
            made[attribute] = self._findings.each(texts, at, read) if read else texts
        if not any(made.values()) and isinstance(value, dict) and len(self._findings.mistakes) == before:
            unknown = any(key not in known for key in value)
            if not unknown:
                self._findings.mistake(path, f"the {what} is empty; name at least one field with a value")
        return made

    def _condition(self, value: Value, path: Path) -> Condition | None:
        findings = self._findings
        fields = findings.mapping(value, path, _CONDITION, "a condition")
        if "key" not in fields:
            if isinstance(value, dict) and value.get("key") is None:
                findings.mistake(path, "the condition has no key")
            return None
        at = (*path, "key")
        text = findings.full_text(fields["key"], at, most=1024)
        key = values.condition_key(text) if text else None
        if isinstance(key, Refusal):
            findings.mistake(at, key.message)
            key = None
        elif key is not None and self._action is Action.CUSTOM and key.attribute in _NOT_FOR_CUSTOM:
            findings.mistake(at, _BEFORE_IDENTITY)
        if not fields.get("values") and not fields.get("notValues"):
            findings.mistake(path, "the condition has neither values nor notValues")
        return Condition(
            key or ConditionKey(Attribute.SOURCE_IP),
            self._condition_values(fields, "values", key, path),
            self._condition_values(fields, "notValues", key, path),
        )

    def _condition_values(
        self, fields: dict[str, Value], field: str, key: ConditionKey | None, path: Path
    ) -> tuple[str, ...]:
        if field not in fields:
            return ()
        at = (*path, field)
        attribute = key.attribute if key else None
        accounts = attribute is Attribute.SOURCE_SERVICE_ACCOUNT
        texts = self._findings.texts(fields[field], at, most=MAX_ACCOUNTS if accounts else 0)
        read: _Read | None = self._account if accounts else _BY_ATTRIBUTE.get(attribute) if attribute else None
        return tuple(map(str, self._findings.each(texts, at, read))) if read else texts

    def _warn_of_tcp(self, fields: dict[str, Value], path: Path) -> None:
        """Istio's own warning: on TCP, a DENY rule loses its HTTP attributes, and widens."""
        sources, operations = _inner(fields, "from", "source"), _inner(fields, "to", "operation")
        tcp_source = any(field in source for source in sources for field in _TCP_SOURCE)
        tcp_operation = any(field in operation for operation in operations for field in ("ports", "notPorts"))
        if (operations and not tcp_operation) or (sources and not operations and not tcp_source):
            self._findings.warn(
                "deny-widens-on-tcp",
                path,
                "it looks only at HTTP, so that on TCP ports it denies everything from anybody it still holds for",
            )


def _inner(fields: dict[str, Value], field: str, inner: str) -> list[dict[str, Value]]:
    items = fields.get(field)
    if not isinstance(items, list):
        return []
    found = [item.get(inner) for item in items if isinstance(item, dict)]
    return [one for one in found if isinstance(one, dict)]


_BY_ATTRIBUTE: dict[Attribute, _Read] = {
    Attribute.SOURCE_IP: values.network,
    Attribute.REMOTE_IP: values.network,
    Attribute.DESTINATION_IP: values.network,
    Attribute.DESTINATION_PORT: values.port,
    Attribute.SOURCE_TRUST_DOMAIN: values.wildcard,
}
