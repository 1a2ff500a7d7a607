"""What the policies of a workload look at: the attributes without which a request cannot be decided again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from citadel.authz.model import Attribute, AuthorizationPolicy, Condition

ClaimPath = tuple[str, ...]
_ALWAYS_CLAIMS: frozenset[ClaimPath] = frozenset({("iss",), ("sub",)})  # who it is


@dataclass(frozen=True, slots=True)
class Referred:
    """Names of headers are in lower case."""

    query: bool = False
    """The query of the path counts (`request.headers[:path]`)."""
    remote_ip: bool = False
    destination_ip: bool = False
    sni: bool = False
    headers: frozenset[str] = frozenset()
    claims: frozenset[ClaimPath] = _ALWAYS_CLAIMS
    metadata: frozenset[tuple[str, str]] = frozenset()
    """Filter and key."""

    @classmethod
    def of(cls, policies: Iterable[AuthorizationPolicy]) -> Referred:
        rules = [rule for policy in policies for rule in policy.rules]
        conditions = [condition for rule in rules for condition in rule.conditions]
        looked_at = {condition.key.attribute for condition in conditions}
        headers = {path[0] for path in _paths(conditions, Attribute.REQUEST_HEADERS)}
        claims = {*_ALWAYS_CLAIMS, *_paths(conditions, Attribute.REQUEST_CLAIMS)}
        if Attribute.REQUEST_AUDIENCES in looked_at:
            claims.add(("aud",))
        if Attribute.REQUEST_PRESENTER in looked_at:
            claims.add(("azp",))
        remote = any(one.remote_ip_blocks or one.not_remote_ip_blocks for rule in rules for one in rule.sources)
        return cls(
            ":path" in headers,
            remote or Attribute.REMOTE_IP in looked_at,
            Attribute.DESTINATION_IP in looked_at,
            Attribute.CONNECTION_SNI in looked_at,
            frozenset(headers),
            frozenset(claims),
            frozenset((path[0], path[1]) for path in _paths(conditions, Attribute.ENVOY_FILTERS)),
        )


def _paths(conditions: Iterable[Condition], attribute: Attribute) -> Iterable[tuple[str, ...]]:
    return (condition.key.path for condition in conditions if condition.key.attribute is attribute)
