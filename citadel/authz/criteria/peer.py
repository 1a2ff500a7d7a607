"""Parts of the peer's identity: namespaces, service accounts, trust domains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from citadel.authz.criteria.criterion import NO_KEYS, Criterion, IndexKeys
from citadel.authz.criteria.request import TextCriterion
from citadel.authz.dimensions import NAMESPACE, PRINCIPAL, SERVICE_ACCOUNT, TRUST_DOMAIN, Keys
from citadel.authz.request import JsonValue
from citadel.authz.subject import Subject


@dataclass(frozen=True, slots=True)
class NamespaceCriterion:
    """`namespaces`: `/ns/<value>/` somewhere in the path of the peer's ID; a star stands for anything, slashes too."""

    field: str
    values: tuple[str, ...]
    negated: bool
    parts: tuple[tuple[str, ...], ...]
    """Per value: the texts that must be found one after the other."""

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool) -> NamespaceCriterion:
        return cls(field, values, negated, tuple(tuple(f"/ns/{value}/".split("*")) for value in values))

    def holds(self, subject: Subject) -> bool:
        path = subject.peer_path
        if path is None:
            return self.negated
        return any(_found_in_order(path, parts) for parts in self.parts) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return list(subject.namespaces) if len(subject.namespaces) > 1 else next(iter(subject.namespaces), None)

    def keys(self) -> IndexKeys:
        if self.negated:
            return NO_KEYS
        exact, prefixes = [], []
        for value in self.values:
            start, star, _ = value.partition("*")
            first, slash, _ = start.partition("/")
            if star and not slash:
                prefixes.append(first)
            else:
                exact.append(first)
        return {NAMESPACE: Keys(tuple(exact), tuple(prefixes))}


def _found_in_order(text: str, parts: Iterable[str]) -> bool:
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


@dataclass(frozen=True, slots=True)
class ServiceAccountCriterion:
    """`serviceAccounts`: `/ns/<namespace>/` and behind it, maybe with more between and after, `/sa/<name>`."""

    field: str
    values: tuple[str, ...]
    negated: bool
    accounts: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool) -> ServiceAccountCriterion:
        split = (value.partition("/") for value in values)
        return cls(field, values, negated, tuple((namespace, name) for namespace, _, name in split))

    def holds(self, subject: Subject) -> bool:
        segments = subject.peer_segments
        return any(_has_account(segments, *account) for account in self.accounts) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.peer_path

    def keys(self) -> IndexKeys:
        if self.negated:
            return NO_KEYS
        return {
            SERVICE_ACCOUNT: Keys(tuple({name for _, name in self.accounts})),
            NAMESPACE: Keys(tuple({namespace for namespace, _ in self.accounts})),
        }


def _has_account(segments: tuple[str, ...], namespace: str, name: str) -> bool:
    pairs = list(pairwise(segments))
    return ("ns", namespace) in pairs and ("sa", name) in pairs[pairs.index(("ns", namespace)) + 2 :]


@dataclass(frozen=True, slots=True)
class TrustDomainCriterion:
    """`trustDomains`: the trust domain of the peer's ID, with at most one star, which may stand anywhere."""

    field: str
    values: tuple[str, ...]
    negated: bool
    exact: frozenset[str]
    around_star: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool) -> TrustDomainCriterion:
        starred = (value.partition("*") for value in values if "*" in value)
        return cls(
            field,
            values,
            negated,
            frozenset(value for value in values if "*" not in value),
            tuple((before, after) for before, _, after in starred),
        )

    def holds(self, subject: Subject) -> bool:
        peer = subject.peer
        if peer is None:
            return self.negated
        name = subject.trust_domain
        if name is None:  # no path behind it: Istio's matchers want one, but for a lone star
            return (("", "") in self.around_star) is not self.negated
        matched = name in self.exact or any(
            len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
            for before, after in self.around_star
        )
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        peer = subject.peer
        return None if peer is None else peer.trust_domain.name

    def keys(self) -> IndexKeys:
        return NO_KEYS if self.negated or self.around_star else {TRUST_DOMAIN: Keys(tuple(self.exact))}


_OF_PEER = (NamespaceCriterion, ServiceAccountCriterion, TrustDomainCriterion)


def reads_peer(criterion: Criterion) -> bool:
    """Whether it compares the peer's identity, or a part of it."""
    return isinstance(criterion, _OF_PEER) or (
        isinstance(criterion, TextCriterion) and criterion.dimension == PRINCIPAL
    )
