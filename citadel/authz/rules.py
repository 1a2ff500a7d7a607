"""Rules, compiled: flat lists of criteria, with the decision that a match leads to, and the keys for the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

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
    reads_peer,
)
from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.dimensions import DESTINATION_IP, HOST, METHOD, PRINCIPAL, REMOTE_IP, SNI, SOURCE_IP, Dimension, Keys
from citadel.authz.facts import MeshFacts
from citadel.authz.model import (
    Action,
    Attribute,
    AuthorizationPolicy,
    Condition,
    IpBlock,
    Operation,
    PolicyName,
    Rule,
    Source,
)
from citadel.authz.patterns import Patterns, ascii_lower
from citadel.authz.rewriting import for_tcp, with_aliases
from citadel.authz.subject import Subject, address_bits
from citadel.authz.template import PathTemplate, is_template

_ORDER = {Action.CUSTOM: 0, Action.AUDIT: 1, Action.DENY: 2, Action.ALLOW: 3}
_MOST_ALTERNATIVES = 64
"""Up to so many pairs of source and operation of one rule are told apart by the index."""

Rank = tuple[int, str, str, int]
Entry = dict[Dimension, Keys]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """One rule of a policy, for HTTP or for TCP.

    It matches if all of `conditions` hold, and all of one of `sources`, and all of one of `operations`; if there are no
    sources, or no operations, then whatever they are.
    """

    policy: AuthorizationPolicy
    match: Match
    """What is said of it when it matches."""
    rule: Rule
    """The rule that was compiled: as written, but with aliases expanded and, for TCP, without HTTP's fields."""
    sources: tuple[tuple[Criterion, ...], ...]
    operations: tuple[tuple[Criterion, ...], ...]
    conditions: tuple[Criterion, ...]
    rank: Rank = field(repr=False)
    """Where it stands in the order in which rules are looked at."""
    decision: Decision = field(init=False, repr=False)
    """What a match leads to, where nothing else is to be said."""
    entries: tuple[Entry, ...] = field(init=False, repr=False)
    """The keys of each way in which the rule can match, for the index."""
    every: tuple[Criterion, ...] = field(init=False, repr=False)
    any_source: tuple[tuple[Criterion, ...], ...] = field(init=False, repr=False)
    any_operation: tuple[tuple[Criterion, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """With one source there is nothing to choose: its criteria join the others."""
        allow = self.match.action is Action.ALLOW
        decision = Decision(
            Outcome.ALLOW if allow else Outcome.DENY,
            Reason.ALLOWED_BY_POLICY if allow else Reason.DENIED_BY_POLICY,
            self.match.action,
            self.match.policy,
            self.match.rule,
        )
        object.__setattr__(self, "decision", decision)
        one_source = self.sources[0] if len(self.sources) == 1 else ()
        one_operation = self.operations[0] if len(self.operations) == 1 else ()
        object.__setattr__(self, "every", one_source + one_operation + self.conditions)
        object.__setattr__(self, "any_source", self.sources if len(self.sources) > 1 else ())
        object.__setattr__(self, "any_operation", self.operations if len(self.operations) > 1 else ())
        object.__setattr__(self, "entries", tuple(self._entries()))

    def matches(self, subject: Subject) -> bool:
        if subject.unknown:
            groups = (self.sources, self.operations, (self.conditions,))
            return all(
                not group or any(all(self.holds(one, subject) for one in criteria) for criteria in group)
                for group in groups
            )
        for criterion in self.every:
            if not criterion.holds(subject):
                return False
        return (not self.any_source or _any_of(self.any_source, subject)) and (
            not self.any_operation or _any_of(self.any_operation, subject)
        )

    def holds(self, criterion: Criterion, subject: Subject) -> bool:
        """Whether one of the rule's criteria holds for this rule.

        Whether a peer of an unknown trust domain is who it says, nobody knows. For ALLOW a criterion
        of the peer must hold whether it is or is nobody; for all that restricts, DENY above all, one of both is enough.
        """
        held = criterion.holds(subject)
        if not subject.unknown or not reads_peer(criterion):
            return held
        of_nobody = criterion.negated
        return held and of_nobody if self.match.action is Action.ALLOW else held or of_nobody

    def _entries(self) -> Iterator[Entry]:
        every = _keys_of_all(self.every)
        if len(self.any_source) * len(self.any_operation) > _MOST_ALTERNATIVES:
            yield {**every, **_keys_of_any(self.any_source), **_keys_of_any(self.any_operation)}
            return
        operations = [_keys_of_all(operation) for operation in self.any_operation] or [{}]
        for source in [_keys_of_all(source) for source in self.any_source] or [{}]:
            for operation in operations:
                yield {**every, **source, **operation}


def _any_of(alternatives: Iterable[tuple[Criterion, ...]], subject: Subject) -> bool:
    return any(all(criterion.holds(subject) for criterion in criteria) for criteria in alternatives)


def _keys_of_all(criteria: Iterable[Criterion]) -> Entry:
    """Of several criteria in one dimension one is enough."""
    keys: Entry = {}
    for criterion in criteria:
        keys.update(criterion.keys())
    return keys


def _keys_of_any(alternatives: Iterable[tuple[Criterion, ...]]) -> Entry:
    """The dimensions in which all alternatives have keys, with the keys of all of them."""
    first, *others = [_keys_of_all(criteria) for criteria in alternatives] or [{}]
    for other in others:
        first = {dimension: keys + other[dimension] for dimension, keys in first.items() if dimension in other}
    return first


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """A policy with its rules compiled for both kinds of traffic. Rules that do not stand on TCP are missing there."""

    policy: AuthorizationPolicy
    http: tuple[CompiledRule, ...]
    tcp: tuple[CompiledRule, ...]

    @property
    def name(self) -> PolicyName:
        return self.policy.metadata.name

    @classmethod
    def of(cls, policy: AuthorizationPolicy, facts: MeshFacts) -> CompiledPolicy:
        http, tcp = [], []
        for index, written in enumerate(policy.rules):
            rule = with_aliases(written, facts)
            compiled = _compile_rule(policy, index, rule, range(len(rule.conditions)))
            http.append(compiled)
            narrowed = for_tcp(rule, policy.action)
            if narrowed is rule:
                tcp.append(compiled)
            elif narrowed is not None:
                left = [n for n, condition in enumerate(rule.conditions) if not condition.key.attribute.http_only]
                tcp.append(_compile_rule(policy, index, narrowed, left))
        return cls(policy, tuple(http), tuple(tcp))


def _compile_rule(policy: AuthorizationPolicy, index: int, rule: Rule, conditions: Iterable[int]) -> CompiledRule:
    """`conditions` tells where in the policy the rule's conditions are written."""
    place = f"rules[{index}]"
    name = policy.metadata.name
    return CompiledRule(
        policy,
        Match(name, index, policy.action, policy.dry_run),
        rule,
        tuple(tuple(_source(source, f"{place}.from[{number}].source")) for number, source in enumerate(rule.sources)),
        tuple(
            tuple(_operation(operation, f"{place}.to[{number}].operation"))
            for number, operation in enumerate(rule.operations)
        ),
        tuple(
            criterion
            for number, condition in zip(conditions, rule.conditions, strict=True)
            for criterion in _condition(condition, f"{place}.when[{number}]")
        ),
        (_ORDER[policy.action], name.namespace, name.name, index),
    )


Maker = Callable[[str, tuple[str, ...], bool], Criterion]


def _both(
    make: Maker, place: str, name: str, values: tuple[str, ...], not_values: tuple[str, ...]
) -> Iterator[Criterion]:
    if values:
        yield make(f"{place}.{name}", values, False)
    if not_values:
        yield make(f"{place}.not{name[0].upper()}{name[1:]}", not_values, True)


def _source(source: Source, place: str) -> Iterator[Criterion]:
    yield from _both(_principals, place, "principals", source.principals, source.not_principals)
    yield from _both(
        RequestPrincipalCriterion.parse,
        place,
        "requestPrincipals",
        source.request_principals,
        source.not_request_principals,
    )
    yield from _both(NamespaceCriterion.parse, place, "namespaces", source.namespaces, source.not_namespaces)
    yield from _both(
        ServiceAccountCriterion.parse, place, "serviceAccounts", source.service_accounts, source.not_service_accounts
    )
    yield from _both(TrustDomainCriterion.parse, place, "trustDomains", source.trust_domains, source.not_trust_domains)
    yield from _both(_source_ip, place, "ipBlocks", _texts(source.ip_blocks), _texts(source.not_ip_blocks))
    yield from _both(
        _remote_ip, place, "remoteIpBlocks", _texts(source.remote_ip_blocks), _texts(source.not_remote_ip_blocks)
    )


def _operation(operation: Operation, place: str) -> Iterator[Criterion]:
    yield from _both(_hosts, place, "hosts", operation.hosts, operation.not_hosts)
    yield from _both(_methods, place, "methods", operation.methods, operation.not_methods)
    yield from _both(_paths, place, "paths", operation.paths, operation.not_paths)
    yield from _both(_ports, place, "ports", _texts(operation.ports), _texts(operation.not_ports))


def _condition(condition: Condition, place: str) -> Iterator[Criterion]:
    make = _condition_maker(condition)
    key = str(condition.key)
    if condition.values:
        yield make(f"{place}[{key}].values", condition.values, False)
    if condition.not_values:
        yield make(f"{place}[{key}].notValues", condition.not_values, True)


def _condition_maker(condition: Condition) -> Maker:
    path = condition.key.path
    match condition.key.attribute:
        case Attribute.REQUEST_HEADERS:
            return lambda field, values, negated: HeaderCriterion(
                field, values, negated, path[0], Patterns.parse(values)
            )
        case Attribute.REQUEST_CLAIMS:
            return _claim(path)
        case Attribute.REQUEST_AUDIENCES:
            return _claim(("aud",))
        case Attribute.REQUEST_PRESENTER:
            return _claim(("azp",))
        case Attribute.ENVOY_FILTERS:
            # Istio reads `[a][b]` as the one key `a][b`: metadata is not looked into.
            return lambda field, values, negated: MetadataCriterion.parse(
                field, values, negated, path[0], "][".join(path[1:])
            )
        case attribute:
            return _PLAIN[attribute]


def _claim(path: tuple[str, ...]) -> Maker:
    return lambda field, values, negated: ClaimCriterion(field, values, negated, path, Patterns.parse(values))


def _principals(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    return TextCriterion(field, values, negated, PRINCIPAL, Patterns.parse(values))


def _hosts(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    patterns = Patterns.parse(map(ascii_lower, values))
    return TextCriterion(field, values, negated, HOST, patterns, empty_is_present=True)


def _methods(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    return TextCriterion(field, values, negated, METHOD, Patterns.parse(values), empty_is_present=True)


def _sni(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    return TextCriterion(field, values, negated, SNI, Patterns.parse(values))


def _paths(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    templates = tuple(PathTemplate.parse(value) for value in values if is_template(value))
    patterns = Patterns.parse(value for value in values if not is_template(value))
    return PathCriterion(field, values, negated, patterns, templates)


def _ports(field: str, values: tuple[str, ...], negated: bool) -> Criterion:
    return PortCriterion(field, values, negated, frozenset(map(int, values)))


def _address(dimension: Dimension) -> Maker:
    return lambda field, values, negated: AddressCriterion(
        field, values, negated, dimension, tuple(map(_network_bits, values))
    )


_source_ip, _remote_ip, _destination_ip = map(_address, (SOURCE_IP, REMOTE_IP, DESTINATION_IP))

_PLAIN: dict[Attribute, Maker] = {
    Attribute.SOURCE_IP: _source_ip,
    Attribute.REMOTE_IP: _remote_ip,
    Attribute.DESTINATION_IP: _destination_ip,
    Attribute.DESTINATION_PORT: _ports,
    Attribute.SOURCE_NAMESPACE: NamespaceCriterion.parse,
    Attribute.SOURCE_SERVICE_ACCOUNT: ServiceAccountCriterion.parse,
    Attribute.SOURCE_PRINCIPAL: _principals,
    Attribute.SOURCE_TRUST_DOMAIN: TrustDomainCriterion.parse,
    Attribute.REQUEST_PRINCIPAL: RequestPrincipalCriterion.parse,
    Attribute.CONNECTION_SNI: _sni,
}


def _network_bits(text: str) -> str:
    network = ip_network(text)
    return address_bits(network.version, int(network.network_address), network.prefixlen)


def _texts(values: Iterable[int | IpBlock]) -> tuple[str, ...]:
    return tuple(map(str, values))
