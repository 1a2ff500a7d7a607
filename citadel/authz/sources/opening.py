"""What a new set of policies would open: workloads where only what is allowed was let in, and what a DENY had closed.

Pure. Workloads are not known here, so that the least of those that a policy can apply to stands for all of them: of the
policy's namespace, and with the labels of its selector alone. Fewer policies apply to it than to any of the others: if
one of these would be opened, it would be, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

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
    TargetKind,
    TargetRef,
    WorkloadSelector,
)
from citadel.authz.request import ServiceRef, Workload, WorkloadKind
from citadel.authz.selection import attached, namespaces_of

MOST_COMPARED = 200_000
"""Pairs of places that are looked at; what is beyond that is said to open."""
_ANYWHERE = ""  # a namespace that no policy is in
_ALL_PATHS = frozenset({"*", "/*", "/{**}"})
_STARRED = frozenset({Attribute.SOURCE_PRINCIPAL, Attribute.SOURCE_NAMESPACE, Attribute.SOURCE_TRUST_DOMAIN})
_ADDRESSES = frozenset({Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP})


@dataclass(frozen=True, slots=True)
class Place:
    """Whom a policy applies to: its namespace, with what it selects there."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    targets: tuple[TargetRef, ...]

    @classmethod
    def of(cls, policy: AuthorizationPolicy) -> Place:
        labels = () if policy.selector is None else policy.selector.match_labels
        return cls(policy.metadata.name.namespace, labels, policy.target_refs)

    def said(self, root: str) -> str:
        """For people: `shop (app=cart)`, `all namespaces`, `Gateway shop/public`."""
        if self.targets:
            return ", ".join(f"{one.kind.value[1]} {self.namespace}/{one.name}" for one in self.targets)
        where = "all namespaces" if self.namespace == root else self.namespace
        return where + (f" ({', '.join(f'{name}={value}' for name, value in self.labels)})" if self.labels else "")

    def least(self, root: str) -> Iterator[Workload]:
        """The least workloads that it applies to."""
        if not self.targets:
            yield Workload(_ANYWHERE if self.namespace == root else self.namespace, dict(self.labels))
        for target in self.targets:
            match target.kind:
                case TargetKind.GATEWAY:
                    for kind in (WorkloadKind.GATEWAY, WorkloadKind.WAYPOINT):
                        yield Workload(self.namespace, {}, kind, target.name)
                case TargetKind.GATEWAY_CLASS:
                    yield Workload(_ANYWHERE, {}, WorkloadKind.WAYPOINT)
                case TargetKind.SERVICE | TargetKind.SERVICE_ENTRY:
                    service = ServiceRef(self.namespace, target.name, target.kind)
                    yield Workload(self.namespace, {}, WorkloadKind.WAYPOINT, services=(service,))


class Places:
    """The places of some policies, by namespace and by a label, with a policy that stands for each."""

    def __init__(self, policies: Iterable[AuthorizationPolicy], root: str) -> None:
        self._root = root
        self.by_place: dict[Place, PolicyName] = {}
        self._by_namespace: dict[str, list[Place]] = defaultdict(list)
        self._anyone: dict[str, list[Place]] = defaultdict(list)
        self._by_label: dict[tuple[str, tuple[str, str]], list[Place]] = defaultdict(list)
        for policy in policies:
            place = Place.of(policy)
            if place in self.by_place:
                continue
            self.by_place[place] = policy.metadata.name
            self._by_namespace[place.namespace].append(place)
            if place.labels:
                self._by_label[place.namespace, place.labels[0]].append(place)
            else:
                self._anyone[place.namespace].append(place)

    def near(self, namespace: str) -> Iterable[Place]:
        """Those that can apply to a workload that a policy of `namespace` applies to."""
        if namespace == self._root:
            return self.by_place
        return chain(self._by_namespace.get(namespace, ()), self._by_namespace.get(self._root, ()))

    def apply_to(self, workload: Workload) -> bool:
        return any(
            attached(WorkloadSelector(place.labels), place.targets, namespace, workload, self._root)
            for namespace in namespaces_of(workload, self._root)
            for place in self._near(namespace, workload)
        )

    def _near(self, namespace: str, workload: Workload) -> Iterator[Place]:
        yield from self._anyone.get(namespace, ())
        for label in workload.labels.items():
            yield from self._by_label.get((namespace, label), ())


@dataclass(frozen=True, slots=True)
class Opening:
    """A place that would be opened, and by what."""

    place: Place
    why: str


class Openings:
    """What lies between two sets."""

    def __init__(
        self, before: Iterable[AuthorizationPolicy], after: Iterable[AuthorizationPolicy], root_namespace: str
    ) -> None:
        self._root = root_namespace
        self._old, self._new = (
            [one for one in some if not one.dry_run and one.action in (Action.ALLOW, Action.DENY)]
            for some in (before, after)
        )

    def of_allows(self) -> Iterator[Opening]:
        """Where only what was allowed was let in, and everybody would be: no ALLOW applies any more, or one that lets
        everybody in does."""
        old, new = self._places(self._old, _is_allow), self._places(self._new, _is_allow)
        for place in old.by_place:
            if place not in new.by_place and any(
                old.apply_to(one) and not new.apply_to(one) for one in place.least(self._root)
            ):
                yield Opening(place, "no ALLOW policy applies any more")
        old_wide, new_wide = self._places(self._old, _lets_all_in), self._places(self._new, _lets_all_in)
        budget = MOST_COMPARED
        for place, policy in new_wide.by_place.items():
            if place in old_wide.by_place:
                continue
            if budget <= 0:
                yield Opening(place, f"{policy} lets everybody in")
                continue
            for one in self._meeting(place, old):
                budget -= 1
                if budget <= 0 or (one is not None and old.apply_to(one) and not old_wide.apply_to(one)):
                    yield Opening(place, f"{policy} lets everybody in")
                    break

    def of_denials(self) -> Iterator[Opening]:
        """Where a DENY closed everything, or all but its exceptions, and none does any more."""
        old, new = self._places(self._old, _closes_all), self._places(self._new, _closes_all)
        for place, policy in old.by_place.items():
            if place not in new.by_place and any(
                old.apply_to(one) and not new.apply_to(one) for one in place.least(self._root)
            ):
                yield Opening(place, f"{policy} closed it")

    def _places(self, policies: Iterable[AuthorizationPolicy], which: Callable[[AuthorizationPolicy], bool]) -> Places:
        return Places(filter(which, policies), self._root)

    def _meeting(self, place: Place, others: Places) -> Iterator[Workload | None]:
        """The least workloads of the place; then the least that it and another place have in common, or None."""
        least = tuple(place.least(self._root))
        yield from least
        for other in others.near(place.namespace):
            for one in least:
                if other.targets or any(one.labels.get(name, value) != value for name, value in other.labels):
                    yield None
                    continue
                namespace = one.namespace or (_ANYWHERE if other.namespace == self._root else other.namespace)
                yield replace(one, namespace=namespace, labels={**one.labels, **dict(other.labels)})


def _is_allow(policy: AuthorizationPolicy) -> bool:
    return policy.action is Action.ALLOW


def _lets_all_in(policy: AuthorizationPolicy) -> bool:
    return policy.action is Action.ALLOW and any(map(is_wide, policy.rules))


def _closes_all(policy: AuthorizationPolicy) -> bool:
    return policy.action is Action.DENY and any(map(is_wide, policy.rules))


def is_wide(rule: Rule) -> bool:
    """Whether it matches everybody (or every peer with an identity), whatever is called, but for what it excludes."""
    return (
        (not rule.sources or any(map(_wide_source, rule.sources)))
        and (not rule.operations or any(map(_wide_operation, rule.operations)))
        and all(map(_wide_condition, rule.conditions))
    )


def _wide_source(source: Source) -> bool:
    return (
        not (source.request_principals or source.service_accounts)
        and all(not values or "*" in values for values in (source.principals, source.namespaces, source.trust_domains))
        and _all_addresses(source.ip_blocks)
        and _all_addresses(source.remote_ip_blocks)
    )


def _wide_operation(operation: Operation) -> bool:
    return (
        not operation.ports
        and all(not values or "*" in values for values in (operation.hosts, operation.methods))
        and (not operation.paths or not _ALL_PATHS.isdisjoint(operation.paths))
    )


def _wide_condition(condition: Condition) -> bool:
    if not condition.values:
        return True
    attribute = condition.key.attribute
    if attribute in _STARRED:
        return "*" in condition.values
    return attribute in _ADDRESSES and any(value.endswith("/0") for value in condition.values)


def _all_addresses(blocks: tuple[IpBlock, ...]) -> bool:
    return not blocks or any(block.prefixlen == 0 for block in blocks)
