"""Documents looked at together: shadowed rules, denials that are passed, providers, tokens nobody verifies, ties."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property

from citadel.authz.facts import MeshFacts
from citadel.authz.lint.covers import labels_covered, may_meet, rule_covers, scope_covers
from citadel.authz.lint.fields import parts, rules
from citadel.authz.lint.finding import Strike
from citadel.authz.lint.rules import IDENTITY, is_token
from citadel.authz.load.result import PolicyDocuments
from citadel.authz.load.tree import Path
from citadel.authz.model import (
    Action,
    AuthorizationPolicy,
    Document,
    MtlsMode,
    PeerAuthentication,
    PolicyName,
    RequestAuthentication,
    Rule,
    Source,
    TargetKind,
)
from citadel.authz.request import Workload
from citadel.authz.rewriting import with_aliases
from citadel.authz.selection import WAYPOINT_CLASS, applies

MOST_COMPARED = 300
"""Rules of one action in one namespace are compared with each other up to this number; beyond it, only equal ones."""

_ANY_PEER = Source(not_principals=("*",))
_ANY_TOKEN = Source(not_request_principals=("*",))
_PLAINTEXT = (MtlsMode.PERMISSIVE, MtlsMode.DISABLE)
_Sort = tuple[Action, bool, str | None]
_Placed = tuple[AuthorizationPolicy, int, Rule]
Struck = Iterator[tuple[Document, Strike]]


class Mesh:
    """All documents of a mesh, for the checks that need more than one of them."""

    def __init__(self, documents: PolicyDocuments, facts: MeshFacts, workloads: Sequence[Workload]) -> None:
        self._documents = documents
        self._facts = facts
        self._workloads = workloads
        self._root = facts.root_namespace

    def strikes(self) -> Struck:
        for policy in self._documents.authorization_policies:
            for strike in self._of_policy(policy):
                yield policy, strike
        yield from self._shadowed()
        yield from self._selects_nothing()
        yield from self._ties()

    # --- one policy among the others

    def _of_policy(self, policy: AuthorizationPolicy) -> Iterator[Strike]:
        for index, target in enumerate(policy.target_refs):
            if target.kind is TargetKind.GATEWAY_CLASS and (
                policy.name.namespace != self._root or target.name != WAYPOINT_CLASS
            ):
                yield Strike("target-never-applies", ("spec", "targetRefs", index), f'GatewayClass "{target.name}".')
        if policy.action is Action.CUSTOM:
            yield from self._providers(policy)
        for path, rule in rules(policy):
            yield from self._tokens(policy, rule, path)
            if policy.action is Action.DENY:
                yield from self._passed(policy, rule, path)

    def _providers(self, policy: AuthorizationPolicy) -> Iterator[Strike]:
        at = ("spec", "provider", "name")
        if policy.provider is not None and self._facts.provider(policy.provider) is None:
            yield Strike("unknown-provider", at, f'there is no provider "{policy.provider}".')
        for other in () if self._facts.several_providers else self._custom:
            if other.provider != policy.provider and self._may_meet(policy, other):
                yield Strike("several-providers", at, f'{other.name} asks "{other.provider}".')
                return

    @cached_property
    def _custom(self) -> list[AuthorizationPolicy]:
        return [one for one in self._documents.authorization_policies if one.action is Action.CUSTOM]

    def _may_meet(
        self, one: AuthorizationPolicy, other: AuthorizationPolicy | RequestAuthentication | PeerAuthentication
    ) -> bool:
        """Whether there can be a workload that both apply to. Attached to targets or by labels, one cannot tell."""
        spaces = {one.name.namespace, other.name.namespace}
        if len(spaces) > 1 and self._root not in spaces:
            return False
        theirs = () if isinstance(other, PeerAuthentication) else other.target_refs
        if one.target_refs and theirs:
            return bool(set(one.target_refs) & set(theirs))
        return may_meet(one.selector, other.selector)

    def _tokens(self, policy: AuthorizationPolicy, rule: Rule, path: Path) -> Iterator[Strike]:
        for part in parts(rule, path):
            for field in part.fields:
                if field.negated or not is_token(field.looks_at):
                    continue
                if not any(
                    one.jwt_rules and self._may_meet(policy, one) for one in self._documents.request_authentications
                ):
                    yield Strike("no-request-authentication", field.path, "no token is verified here.")
                    return

    def _passed(self, policy: AuthorizationPolicy, rule: Rule, path: Path) -> Iterator[Strike]:
        """A DENY that looks at an identity, which plaintext does not have, or at a token, which need not be there."""
        looked_at = {field.looks_at for part in parts(rule, path) for field in part.fields if not field.negated}
        by_identity = looked_at & IDENTITY
        if by_identity and not policy.target_refs and self._accepts_plaintext(policy):
            if not self._denied_without(policy, _ANY_PEER):
                what = ", ".join(sorted(by_identity))
                yield Strike("plaintext-passes-deny", path, f"a plaintext request has no {what}.")
        elif any(is_token(one) for one in looked_at) and not self._denied_without(policy, _ANY_TOKEN):
            yield Strike("no-token-passes-deny", path, "a request without a token passes it.")

    def _denied_without(self, policy: AuthorizationPolicy, missing: Source) -> bool:
        """Whether some DENY turns away everybody without an identity (or token) where this policy applies."""
        rule = Rule(sources=(missing,))
        return any(rule in one.rules and scope_covers(one, policy, self._root) for one in self._blanket)

    @cached_property
    def _blanket(self) -> list[AuthorizationPolicy]:
        """Enforced DENY policies that turn away everybody without an identity, or without a token."""
        rules_ = (Rule(sources=(_ANY_PEER,)), Rule(sources=(_ANY_TOKEN,)))
        return [
            one
            for one in self._documents.authorization_policies
            if one.action is Action.DENY and not one.dry_run and any(rule in rules_ for rule in one.rules)
        ]

    # --- mTLS

    def _accepts_plaintext(self, policy: AuthorizationPolicy) -> bool:
        """Whether some workload that the policy applies to may accept plaintext, as far as PeerAuthentications tell."""
        near = [one for one in self._documents.peer_authentications if self._may_meet(policy, one)]
        selecting = [one for one in near if one.selector is not None and one.selector.match_labels]
        if any(mode in _PLAINTEXT for one in selecting for mode in (one.mtls, *dict(one.port_level_mtls).values())):
            return True
        if any(one.mtls is MtlsMode.STRICT and labels_covered(one.selector, policy.selector) for one in selecting):
            return policy.name.namespace == self._root
        mesh = self._level(self._root)
        if policy.name.namespace != self._root:
            return (self._level(policy.name.namespace) or mesh) is not MtlsMode.STRICT
        others = {one.name.namespace for one in self._documents.peer_authentications} - {self._root}
        return mesh is not MtlsMode.STRICT or any(self._level(other) in _PLAINTEXT for other in others)

    def _level(self, namespace: str) -> MtlsMode | None:
        """What the oldest PeerAuthentication without labels says for a namespace, or for the mesh; None: nothing."""
        found = self._levels.get(namespace)
        return found.mtls if found is not None and found.mtls is not MtlsMode.UNSET else None

    @cached_property
    def _levels(self) -> dict[str, PeerAuthentication]:
        levels: dict[str, PeerAuthentication] = {}
        for one in sorted(self._documents.peer_authentications, key=_age):
            if one.selector is None or not one.selector.match_labels:
                levels.setdefault(one.name.namespace, one)
        return levels

    def _ties(self) -> Struck:
        """PeerAuthentications of one level of which nobody can say which is the oldest."""
        by_namespace: dict[str, list[PeerAuthentication]] = defaultdict(list)
        for one in self._documents.peer_authentications:
            by_namespace[one.name.namespace].append(one)
        for members in by_namespace.values():
            for index, one in enumerate(members):
                for other in members[:index][:MOST_COMPARED]:
                    if _same_level(one, other) and (
                        one.metadata.created_at is None or other.metadata.created_at is None
                    ):
                        yield one, Strike("oldest-unknown", ("metadata",), f"{other.name} is at the same level.")
                        break

    # --- rules beside each other

    def _shadowed(self) -> Struck:
        for (namespace, _), members in self._comparable.items():
            first: dict[Rule, tuple[AuthorizationPolicy, int]] = {}
            for policy, index, rule in members:
                if policy.name.namespace != namespace:  # the root's: told among its own
                    first.setdefault(rule, (policy, index))
                    continue
                other = self._shadow(policy, index, rule, members, first)
                if other is not None:
                    name, number = other
                    where = "another rule" if name == policy.name else str(name)
                    message = f"rule {number} of {where} matches all that it does."
                    yield policy, Strike("shadowed", ("spec", "rules", index), message)
                first.setdefault(rule, (policy, index))

    @cached_property
    def _comparable(self) -> dict[tuple[str, _Sort], list[_Placed]]:
        """Rules, aliases expanded, that could do each other's work: of one sort, and of one namespace or the root."""
        found: dict[tuple[str, _Sort], list[_Placed]] = defaultdict(list)
        for policy in self._documents.authorization_policies:
            sort = (policy.action, policy.dry_run, policy.provider)
            found[policy.name.namespace, sort] += [
                (policy, index, with_aliases(rule, self._facts)) for index, rule in enumerate(policy.rules)
            ]
        roots = {sort: members for (namespace, sort), members in found.items() if namespace == self._root}
        return {
            (namespace, sort): members if namespace == self._root else [*roots.get(sort, ()), *members]
            for (namespace, sort), members in found.items()
        }

    def _shadow(
        self,
        policy: AuthorizationPolicy,
        index: int,
        rule: Rule,
        members: Sequence[_Placed],
        first: dict[Rule, tuple[AuthorizationPolicy, int]],
    ) -> tuple[PolicyName, int] | None:
        equal = first.get(rule)
        if equal is not None and scope_covers(equal[0], policy, self._root):
            return equal[0].name, equal[1]
        if len(members) > MOST_COMPARED:
            return None
        for other, number, wide in members:
            if (other is policy and number == index) or not scope_covers(other, policy, self._root):
                continue
            if rule_covers(wide, rule, policy.action):
                mutual = scope_covers(policy, other, self._root) and rule_covers(rule, wide, policy.action)
                if not mutual or (other.name, number) < (policy.name, index):
                    return other.name, number
        return None

    # --- workloads

    def _selects_nothing(self) -> Struck:
        if not self._workloads:
            return
        documents = self._documents
        everything: Iterable[Document] = (
            *documents.authorization_policies,
            *documents.request_authentications,
            *documents.peer_authentications,
        )
        for one in everything:
            if not any(self._selects(one, workload) for workload in self._workloads):
                yield one, Strike("selects-nothing", ("spec",), f"none of {len(self._workloads)} workloads.")

    def _selects(self, document: Document, workload: Workload) -> bool:
        if not isinstance(document, PeerAuthentication):
            return applies(document, workload, self._root)
        if document.name.namespace not in (self._root, workload.namespace):
            return False
        return document.selector is None or document.selector.selects(workload.labels)


def _same_level(one: PeerAuthentication, other: PeerAuthentication) -> bool:
    labels = [bool(each.selector and each.selector.match_labels) for each in (one, other)]
    return labels[0] == labels[1] and may_meet(one.selector, other.selector)


def _age(one: PeerAuthentication) -> tuple[datetime, PolicyName]:
    return one.metadata.created_at or datetime.max.replace(tzinfo=UTC), one.name
