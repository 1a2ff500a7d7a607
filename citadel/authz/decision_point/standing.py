"""A set of policies with what has to be known of it before and after deciding. Immutable but for what it remembers."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.authz.looks import Looks
from citadel.authz.model import Attribute, JwtRule
from citadel.authz.policyset import MOST_WORKLOADS, PolicySet, WorkloadPolicies
from citadel.authz.refers import refers
from citadel.authz.request import Workload
from citadel.authz.tokens import TokenGate

_NOTHING = Looks(frozenset(), frozenset(), ())


@dataclass(frozen=True, slots=True)
class Applying:
    """What one workload's decisions take besides its AuthorizationPolicies."""

    policies: WorkloadPolicies
    gate: TokenGate | None
    """None: no RequestAuthentication applies, and no token is looked at."""
    asks: bool
    """CUSTOM policies apply."""
    refers: frozenset[Attribute]
    """What of a connection they refer to (authz.refers)."""


class Standing:
    """The set in force, or that there is none yet."""

    def __init__(self, policies: PolicySet | None) -> None:
        self.policies = policies
        self.looks = _NOTHING if policies is None else policies.looks
        self._applying: dict[object, Applying] = {}
        self._seen: dict[int, tuple[Workload, Applying]] = {}  # by id(): it is kept, so that no other can have it

    @property
    def version(self) -> str:
        """Empty: there is no set yet."""
        return "" if self.policies is None else self.policies.version

    def jwt_rules(self) -> list[JwtRule]:
        """All of the set, whoever they apply to."""
        return [rule for document in self.looks.authentications for rule in document.jwt_rules]

    def for_workload(self, workload: Workload) -> Applying:
        """Cheap when it was asked for before."""
        assert self.policies is not None, "there is nothing to decide by"
        seen = self._seen.get(id(workload))
        if seen is not None:
            return seen[1]
        applying = self.policies.for_workload(workload)
        found = self._applying.get(applying)
        if found is None:
            named = (refers(one.policy) for one in applying.policies)
            refer = frozenset[Attribute]().union(*named)
            found = Applying(applying, self._gate(workload), bool(applying.providers), refer)
            if len(self._applying) >= MOST_WORKLOADS:
                self._applying = {}
            self._applying[applying] = found
        if len(self._seen) >= MOST_WORKLOADS:
            self._seen = {}
        self._seen[id(workload)] = workload, found
        return found

    def _gate(self, workload: Workload) -> TokenGate | None:
        assert self.policies is not None
        facts = self.policies.facts
        gate = TokenGate.of(self.looks.authentications, workload, facts.root_namespace)
        return gate if gate.rules else None
