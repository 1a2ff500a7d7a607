"""The criteria that a rule is made of: one field, the values that it lists, and whether a request meets them.

Every criterion is a value: `field` is its place in the rule, `values` what the policy lists there (trust-domain aliases
expanded), `negated` says whether it is the `not…` form, which holds where none of the values matches, and so also where
the attribute is missing. `actual` is the attribute as explanations show it.

`keys` tell the index by what requests can be told apart that cannot possibly meet the criterion: a superset of what
does, by dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Protocol

from citadel.authz.dimensions import (
    NAMESPACE,
    PATH,
    PORT,
    PRINCIPAL,
    REQUEST_PRINCIPAL,
    SERVICE_ACCOUNT,
    TRUST_DOMAIN,
    Dimension,
    Keys,
    claim_dimension,
    header_dimension,
)
from citadel.authz.patterns import Patterns
from citadel.authz.request import JsonValue
from citadel.authz.subject import Subject
from citadel.authz.template import PathTemplate

NO_KEYS: Mapping[Dimension, Keys] = {}
IndexKeys = Mapping[Dimension, Keys]


class Criterion(Protocol):
    """One field of a rule, compiled."""

    @property
    def field(self) -> str: ...
    @property
    def values(self) -> tuple[str, ...]: ...
    @property
    def negated(self) -> bool: ...

    def holds(self, subject: Subject) -> bool: ...

    def actual(self, subject: Subject) -> JsonValue: ...

    def keys(self) -> IndexKeys: ...


@dataclass(frozen=True, slots=True)
class TextCriterion:
    """An attribute with at most one value: principals, methods, hosts, SNI."""

    field: str
    values: tuple[str, ...]
    negated: bool
    dimension: Dimension
    patterns: Patterns
    empty_is_present: bool = False
    """`*` matches also an empty text, as long as there is one (methods, hosts)."""

    def holds(self, subject: Subject) -> bool:
        text = self.dimension.values(subject)
        patterns = self.patterns
        if text is None:
            return self.negated
        return (
            text in patterns.exact
            or text.startswith(patterns.prefixes)
            or text.endswith(patterns.suffixes)
            or (patterns.present and (text != "" or self.empty_is_present))
        ) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        value: JsonValue = self.dimension.values(subject)
        return value

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {self.dimension: Keys.of_patterns(self.patterns)}


@dataclass(frozen=True, slots=True)
class PathCriterion:
    """`paths`: texts and templates against the normalised path."""

    field: str
    values: tuple[str, ...]
    negated: bool
    patterns: Patterns
    templates: tuple[PathTemplate, ...]

    def holds(self, subject: Subject) -> bool:
        path = subject.path
        if path is None:
            return self.negated
        return (
            self.patterns.match(path) or any(template.match(path) for template in self.templates)
        ) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.path

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        keys = Keys.of_patterns(self.patterns)
        starts = tuple(template.literal_start for template in self.templates)
        return {PATH: Keys(keys.exact, keys.prefixes + starts, keys.suffixes)}


@dataclass(frozen=True, slots=True)
class PortCriterion:
    """`ports`, `destination.port`."""

    field: str
    values: tuple[str, ...]
    negated: bool
    numbers: frozenset[int]

    def holds(self, subject: Subject) -> bool:
        return (subject.port in self.numbers) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.port

    def keys(self) -> IndexKeys:
        return NO_KEYS if self.negated else {PORT: Keys(exact=tuple(self.numbers))}


@dataclass(frozen=True, slots=True)
class AddressCriterion:
    """`ipBlocks`, `remoteIpBlocks`, `destination.ip`: networks as the bits that their members start with."""

    field: str
    values: tuple[str, ...]
    negated: bool
    dimension: Dimension
    networks: tuple[str, ...]

    def holds(self, subject: Subject) -> bool:
        bits = self.dimension.values(subject)
        if bits is None:
            return self.negated
        matched: bool = bits.startswith(self.networks)
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        address = _ADDRESS[self.dimension.name](subject)
        return None if address is None else str(address)

    def keys(self) -> IndexKeys:
        return NO_KEYS if self.negated else {self.dimension: Keys(prefixes=self.networks)}


_ADDRESS = {
    "source_bits": attrgetter("request.source_ip"),
    "remote_bits": attrgetter("request.remote_ip"),
    "destination_bits": attrgetter("request.destination_ip"),
}


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


@dataclass(frozen=True, slots=True)
class RequestPrincipalCriterion:
    """`requestPrincipals`: pairs of what the issuer and the subject of the token may be, both of them texts."""

    field: str
    values: tuple[str, ...]
    negated: bool
    pairs: tuple[tuple[Patterns, Patterns], ...]

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool) -> RequestPrincipalCriterion:
        return cls(field, values, negated, tuple(split_request_principal(value) for value in values))

    def holds(self, subject: Subject) -> bool:
        issuer, user = subject.issuer, subject.user
        if issuer is None or user is None:
            return self.negated
        return any(iss.match(issuer) and sub.match(user) for iss, sub in self.pairs) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.request_principal

    def keys(self) -> IndexKeys:
        if self.negated or "*" in self.values:
            return NO_KEYS
        exact, prefixes, suffixes = [], [], []
        for value in self.values:
            if value.startswith("*"):
                suffixes.append(value[1:])
            elif value.endswith("*"):
                prefixes.append(value[:-1])
            else:
                exact.append(value if "/" in value else f"{value}/")
        return {REQUEST_PRINCIPAL: Keys(tuple(exact), tuple(prefixes), tuple(suffixes))}


_ANY_TEXT = Patterns(present=True)


def split_request_principal(value: str) -> tuple[Patterns, Patterns]:
    """What `iss` and `sub` must be. The value is split at its last slash, and a star counts at one end only.

    So `*/*` means the subject `*`, and a value without slash and star an empty subject.
    """
    if value == "*":
        return _ANY_TEXT, _ANY_TEXT
    issuer, slash, user = value.rpartition("/")
    if value.startswith("*"):
        if not slash:
            return _ANY_TEXT, Patterns(suffixes=(value[1:],))
        return _ANY_TEXT if issuer == "*" else Patterns(suffixes=(issuer[1:],)), Patterns(exact=frozenset({user}))
    if value.endswith("*"):
        if not slash:
            return Patterns(prefixes=(value[:-1],)), _ANY_TEXT
        return Patterns(exact=frozenset({issuer})), _ANY_TEXT if user == "*" else Patterns(prefixes=(user[:-1],))
    if not slash:
        issuer, user = value, ""
    return Patterns(exact=frozenset({issuer})), Patterns(exact=frozenset({user}))


@dataclass(frozen=True, slots=True)
class ClaimCriterion:
    """`request.auth.claims[…]`, `.audiences`, `.presenter`: a text, or one of a list of texts."""

    field: str
    values: tuple[str, ...]
    negated: bool
    claim: tuple[str, ...]
    patterns: Patterns

    def holds(self, subject: Subject) -> bool:
        return any(map(self.patterns.match, subject.claim(self.claim))) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return _one_or_all(subject.claim(self.claim))

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {claim_dimension(self.claim): Keys.of_patterns(self.patterns)}


@dataclass(frozen=True, slots=True)
class HeaderCriterion:
    """`request.headers[…]`: each of repeated values by itself; `*` wants the header, even if it is empty."""

    field: str
    values: tuple[str, ...]
    negated: bool
    name: str
    patterns: Patterns

    def holds(self, subject: Subject) -> bool:
        texts = subject.header(self.name)
        matched = bool(texts) and (self.patterns.present or any(map(self.patterns.match, texts)))
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return _one_or_all(subject.header(self.name))

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {header_dimension(self.name): Keys.of_patterns(self.patterns)}


@dataclass(frozen=True, slots=True)
class MetadataCriterion:
    """`experimental.envoy.filters.X[k]`: dynamic metadata, a text; or, for values in brackets, one of a list."""

    field: str
    values: tuple[str, ...]
    negated: bool
    filter: str
    key: str
    texts: Patterns
    items: Patterns

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool, filter_name: str, key: str) -> MetadataCriterion:
        listed = [value for value in values if value.startswith("[") and value.endswith("]")]
        texts = Patterns.parse(value for value in values if value not in listed)
        return cls(
            field, values, negated, filter_name, key, texts, Patterns.parse(value.strip("[]") for value in listed)
        )

    def holds(self, subject: Subject) -> bool:
        value = subject.metadata(self.filter, self.key)
        if isinstance(value, str):
            matched = self.texts.match(value)
        else:
            matched = isinstance(value, list) and any(self.items.match(item) for item in value if isinstance(item, str))
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.metadata(self.filter, self.key)

    def keys(self) -> IndexKeys:
        return NO_KEYS


_OF_PEER = (NamespaceCriterion, ServiceAccountCriterion, TrustDomainCriterion)


def reads_peer(criterion: Criterion) -> bool:
    """Whether it compares the peer's identity, or a part of it."""
    return isinstance(criterion, _OF_PEER) or (
        isinstance(criterion, TextCriterion) and criterion.dimension == PRINCIPAL
    )


def _one_or_all(texts: tuple[str, ...]) -> JsonValue:
    return list(texts) if len(texts) > 1 else next(iter(texts), None)
