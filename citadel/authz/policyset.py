"""Policy sets: all policies of a mesh, compiled once into an immutable value with a version.

Policies with the same namespace and the same selector are a group, which is indexed once for all workloads that it
applies to. What applies to a workload is found when it is first asked for, and kept.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from citadel.authz.facts import MeshFacts
from citadel.authz.index import Index
from citadel.authz.looks import Looks
from citadel.authz.model import (
    Action,
    AuthorizationPolicy,
    Document,
    Kind,
    PolicyName,
    TargetRef,
    WorkloadSelector,
)
from citadel.authz.request import Workload
from citadel.authz.rules import CompiledPolicy
from citadel.authz.selection import attached, namespaces_of
from citadel.authz.uncollected import uncollected

MOST_WORKLOADS = 20_000
"""For so many workloads the applicable policies are kept; beyond that, all are worked out again."""
SMALL_GROUP = 64
"""Groups with fewer rules are indexed together, once per workload."""

GroupKey = tuple[str, WorkloadSelector | None, tuple[TargetRef, ...]]


class _Group:
    """The policies of one namespace that are attached to the same workloads."""

    def __init__(self, key: GroupKey, policies: tuple[CompiledPolicy, ...]) -> None:
        self.namespace, self.selector, self.target_refs = key
        self.policies = policies
        self.small = sum(len(policy.http) for policy in policies) < SMALL_GROUP

    @cached_property
    def http(self) -> Index:
        return Index(rule for policy in self.policies for rule in policy.http)

    @cached_property
    def tcp(self) -> Index:
        return Index(rule for policy in self.policies for rule in policy.tcp)


class WorkloadPolicies:
    """The policies that apply to one workload, ready to be asked."""

    def __init__(self, groups: Iterable[_Group]) -> None:
        self._groups = tuple(groups)
        self.policies = tuple(sorted((p for group in self._groups for p in group.policies), key=lambda p: p.name))
        enforced = [compiled.policy for compiled in self.policies if not compiled.policy.dry_run]
        dry = [compiled.policy for compiled in self.policies if compiled.policy.dry_run]
        self.has_allow = any(policy.action is Action.ALLOW for policy in enforced)
        """An enforced ALLOW policy applies: what none allows is denied."""
        self.has_dry_run = bool(dry)
        self.has_dry_run_allow = any(policy.action is Action.ALLOW for policy in dry)
        self.providers = tuple(sorted({policy.provider or "" for policy in enforced if policy.action is Action.CUSTOM}))
        """Named by CUSTOM policies."""

    @cached_property
    def http(self) -> tuple[Index, ...]:
        small = [rule for group in self._groups if group.small for policy in group.policies for rule in policy.http]
        return (*((Index(small),) if small else ()), *(group.http for group in self._groups if not group.small))

    @cached_property
    def tcp(self) -> tuple[Index, ...]:
        small = [rule for group in self._groups if group.small for policy in group.policies for rule in policy.tcp]
        return (*((Index(small),) if small else ()), *(group.tcp for group in self._groups if not group.small))


@dataclass(frozen=True, slots=True)
class _Namespace:
    """The groups of a namespace, by a label that their selectors want."""

    anyone: list[_Group] = field(default_factory=list)
    by_label: dict[tuple[str, str], list[_Group]] = field(default_factory=lambda: defaultdict(list))

    def add(self, group: _Group) -> None:
        if group.selector is not None and group.selector.match_labels:
            self.by_label[group.selector.match_labels[0]].append(group)
        else:
            self.anyone.append(group)

    def may_apply(self, workload: Workload) -> Iterator[_Group]:
        yield from self.anyone
        for label in workload.labels.items():
            yield from self.by_label.get(label, ())


@dataclass(frozen=True, slots=True)
class _Part:
    """A document of a set, with what was made of it."""

    document: Document
    digest: bytes
    compiled: CompiledPolicy | None
    """None for the other kinds."""


class PolicySet:
    """All documents of a mesh, and its AuthorizationPolicies compiled. Made by `compile`; never changes."""

    def __init__(self, facts: MeshFacts, parts: tuple[_Part, ...], groups: Mapping[GroupKey, _Group]) -> None:
        self.facts = facts
        self.documents = tuple(part.document for part in parts)
        self.compiled = tuple(part.compiled for part in parts if part.compiled is not None)
        """The AuthorizationPolicies with their rules as criteria: what explanations and other compilers read."""
        self.looks = Looks.of(self.documents)
        self.version = _version(facts, parts)
        """Names the content: equal for equal documents and facts, in whatever order and from whatever files."""
        self._parts = parts
        self._groups = groups
        self._namespaces: dict[str, _Namespace] = defaultdict(_Namespace)
        for group in groups.values():
            self._namespaces[group.namespace].add(group)
        self._workloads: dict[object, WorkloadPolicies] = {}

    def __repr__(self) -> str:
        return f"PolicySet(version={self.version!r}, documents={len(self.documents)})"

    def for_workload(self, workload: Workload) -> WorkloadPolicies:
        """The policies that apply to `workload`. Cheap when it was asked for before."""
        key = (
            workload.namespace,
            tuple(workload.labels.items()),
            workload.kind,
            workload.gateway,
            workload.services,
        )
        found = self._workloads.get(key)
        if found is None:
            found = WorkloadPolicies(self._groups_of(workload))
            if len(self._workloads) >= MOST_WORKLOADS:
                self._workloads = {}
            self._workloads[key] = found
        return found

    def _groups_of(self, workload: Workload) -> Iterator[_Group]:
        root = self.facts.root_namespace
        for name in namespaces_of(workload, root):
            if name in self._namespaces:
                for group in self._namespaces[name].may_apply(workload):
                    if attached(group.selector, group.target_refs, name, workload, root):
                        yield group


@uncollected()
def compile_documents(documents: Iterable[Document], facts: MeshFacts, previous: PolicySet | None = None) -> PolicySet:
    """Compile documents for the mesh that `facts` describe.

    With the `previous` set of the same mesh only what is new in `documents` is compiled; the result is the same.
    """
    known: dict[tuple[Kind, PolicyName], _Part] = {}
    if previous is not None and previous.facts == facts:
        known = {(part.document.kind, part.document.name): part for part in previous._parts}
    parts = []
    for document in documents:
        part = known.get((document.kind, document.name))
        if part is None or (part.document is not document and part.document != document):
            compiled = CompiledPolicy.of(document, facts) if isinstance(document, AuthorizationPolicy) else None
            part = _Part(document, _digest(document), compiled)
        parts.append(part)
    parts.sort(key=lambda part: (part.document.kind, part.document.name.namespace, part.document.name.name))
    return PolicySet(facts, tuple(parts), _grouped(parts, {} if previous is None else previous._groups))


def _grouped(parts: Iterable[_Part], previous: Mapping[GroupKey, _Group]) -> dict[GroupKey, _Group]:
    members: dict[GroupKey, list[CompiledPolicy]] = defaultdict(list)
    for part in parts:
        if part.compiled is not None:
            policy = part.compiled.policy
            selector = policy.selector if policy.selector is not None and policy.selector.match_labels else None
            members[policy.metadata.name.namespace, selector, policy.target_refs].append(part.compiled)
    return {key: _group(key, tuple(policies), previous.get(key)) for key, policies in members.items()}


def _group(key: GroupKey, policies: tuple[CompiledPolicy, ...], previous: _Group | None) -> _Group:
    """The group, with its index already built if it is a large one: no request is to wait for that."""
    if previous is not None and previous.policies == policies:
        return previous
    group = _Group(key, policies)
    if not group.small:
        _ = group.http
        if previous is not None and "tcp" in previous.__dict__:
            _ = group.tcp
    return group


def _version(facts: MeshFacts, parts: Iterable[_Part]) -> str:
    digest = hashlib.sha256(
        repr((replace(facts, space_delimited_claims=frozenset()), sorted(facts.space_delimited_claims))).encode()
    )
    for part in sorted(part.digest for part in parts):
        digest.update(part)
    return digest.hexdigest()[:32]


def _digest(document: Document) -> bytes:
    """Of all that has a meaning: what lint is told does not count."""
    content = replace(document, metadata=replace(document.metadata, silenced=frozenset()))
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()
