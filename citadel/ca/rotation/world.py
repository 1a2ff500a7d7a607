"""World: all that the machine may know when it decides, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, Skid, TrustBundle
from citadel.ca.rotation.clients import Client, Holding, by_client
from citadel.ca.rotation.leaves import LeafGroup, in_use
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RotationPolicy


@dataclass(frozen=True, slots=True)
class World:
    """`plans` oldest first. `running_since`: when our present run began (of several servers: the latest start);
    never later than `now`: a clock that goes back begins a run anew."""

    now: datetime
    running_since: datetime
    bundle: TrustBundle | None
    authorities: tuple[Authority, ...]
    plans: tuple[Plan, ...] = ()
    holdings: tuple[Holding, ...] = ()
    leaves: tuple[LeafGroup, ...] = ()

    def find(self, skid: Skid) -> Authority | None:
        return next((a for a in self.authorities if a.skid == skid), None)

    def active(self, kind: AuthorityKind) -> Authority | None:
        return next((a for a in self.authorities if a.kind is kind and a.state is AuthorityState.ACTIVE), None)

    def issuing_under(self, root: Skid) -> tuple[Authority, ...]:
        return tuple(a for a in self.authorities if a.kind is AuthorityKind.ISSUING and a.root_skid == root)

    def open_plans(self) -> tuple[Plan, ...]:
        return tuple(p for p in self.plans if p.is_open)

    def distributing(self) -> Plan | None:
        """The plan whose root is not signing yet: there is at most one."""
        return next((p for p in self.plans if p.phase is Phase.DISTRIBUTING), None)

    def retiring(self, outgoing: Skid) -> Plan | None:
        return next((p for p in self.plans if p.phase is Phase.RETIRING and p.outgoing == outgoing), None)

    def clients(self) -> list[Client]:
        return by_client(self.holdings)

    def leaves_of(self, root: Skid, skew: timedelta) -> list[LeafGroup]:
        """Leaves in use that chain to `root`, by any clock that is at most `skew` behind ours."""
        signers = frozenset({root, *(a.skid for a in self.issuing_under(root))})  # a plugged-in root may sign itself
        return in_use(self.leaves, signers, self.holdings, self.now - skew)

    def expected(self, policy: RotationPolicy) -> list[Client]:
        """The clients that must acknowledge."""
        return [c for c in self.clients() if c.is_expected(self.now, policy.grace, policy.clock_skew)]
