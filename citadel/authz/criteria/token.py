"""What the end user's token says: its principal and its claims."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.authz.criteria.criterion import NO_KEYS, IndexKeys, one_or_all
from citadel.authz.dimensions import REQUEST_PRINCIPAL, Keys, claim_dimension
from citadel.authz.patterns import Patterns
from citadel.authz.request import JsonValue
from citadel.authz.subject import Subject


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
        return one_or_all(subject.claim(self.claim))

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {claim_dimension(self.claim): Keys.of_patterns(self.patterns)}
