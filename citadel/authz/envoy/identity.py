"""What a peer's SPIFFE ID must be like, as matchers of the URI in its certificate.

Each of them wants `spiffe://` at the start, so that no other URI can match. The trust domain is kept apart from the
path: a peer of a trust domain that is named `ns` is in no namespace for that.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.type.matcher.v3.string_pb2 import StringMatcher

from citadel.authz.criteria import NamespaceCriterion, ServiceAccountCriterion, TrustDomainCriterion
from citadel.authz.envoy.strings import escaped, exact, prefix, regex
from citadel.authz.patterns import Patterns
from citadel.spiffe import SCHEME

_IN_PATH = f"(?s){SCHEME}[^/]*(?:/.*)?"
"""Behind it, a regex for what must stand somewhere in the path, from a slash on."""


def principals(patterns: Patterns) -> Iterator[StringMatcher]:
    for text in sorted(patterns.exact):
        yield exact(SCHEME + text)
    for text in patterns.prefixes:
        yield prefix(SCHEME + text)
    for text in patterns.suffixes:
        yield regex(f"(?s){SCHEME}.*{escaped(text)}")  # a suffix of the ID, without its scheme
    if patterns.present:
        yield prefix(SCHEME)


def namespaces(criterion: NamespaceCriterion) -> Iterator[StringMatcher]:
    for parts in criterion.parts:
        yield regex(f"{_IN_PATH}{'.*'.join(map(escaped, parts))}.*")


def service_accounts(criterion: ServiceAccountCriterion) -> Iterator[StringMatcher]:
    for namespace, name in criterion.accounts:
        yield regex(f"{_IN_PATH}/ns/{escaped(namespace)}/(?:.+/)?sa/{escaped(name)}(?:/.*)?")


def trust_domains(criterion: TrustDomainCriterion) -> Iterator[StringMatcher]:
    for name in sorted(criterion.exact):
        yield prefix(f"{SCHEME}{name}/")
    for before, after in criterion.around_star:
        if before or after:
            yield regex(f"(?s){SCHEME}{escaped(before)}[^/]*{escaped(after)}/.*")
        else:
            yield prefix(SCHEME)
