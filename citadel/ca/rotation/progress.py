"""Progress: how each rotation stands, and all of those under way in a few numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from citadel.ca.rotation.gates import Gate, activation_gate, removal_gate
from citadel.ca.rotation.machine import quiet_until
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.world import World


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan with its gate as it stands now; `asks`: an emergency whose short gate has ended, waiting for a word.
    `held`: what holds it up besides its gate, in sentences."""

    plan: Plan
    gate: Gate
    asks: bool = False
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """`phases`: those that a rotation is in, with the seconds since the longest waiting one entered it; `laggards`:
    clients behind, by standing; `leaves`: in use under roots on their way out; `held`: a hook holds one up."""

    phases: Mapping[str, float] = field(default_factory=dict)
    laggards: Mapping[str, int] = field(default_factory=dict)
    leaves: int = 0
    asks: bool = False
    held: bool = False


def progress(views: Iterable[PlanView], now: datetime) -> Progress:
    phases: dict[str, float] = {}
    laggards: Counter[str] = Counter()
    leaves, asks, held = 0, False, False
    for view in views:
        phase, since = str(view.plan.phase), (now - view.plan.phase_at).total_seconds()
        phases[phase] = max(phases.get(phase, 0.0), since)
        laggards.update(str(one.standing) for one in view.gate.behind)
        leaves += view.gate.leaves_left
        asks = asks or view.asks
        held = held or view.plan.hold is not None
    return Progress(phases, laggards, leaves, asks, held)


def view(plan: Plan, world: World, policy: RotationPolicy) -> PlanView:
    """The plan, and what it waits for."""
    if plan.phase is Phase.DISTRIBUTING:
        gate = activation_gate(plan, world, policy)
        over = world.now - plan.phase_at >= policy.emergency_gate
        asks = plan.emergency and not plan.unasked and over and not gate.open
        return PlanView(plan, gate, asks, _held(plan, gate, world, policy))
    if plan.phase is Phase.RETIRING:
        gate = removal_gate(plan, world, policy)
        return PlanView(plan, gate, held=_held(plan, gate, world, policy))
    return PlanView(plan, Gate(open=False))


def _held(plan: Plan, gate: Gate, world: World, policy: RotationPolicy) -> tuple[str, ...]:
    held = []
    if plan.hold is not None:
        since = plan.hold.since.isoformat(timespec="seconds")
        held.append(f"a hook, which since {since} does not let it {plan.hold.step}: {plan.hold.why}")
    if plan.auto and (until := quiet_until(plan, world, policy)) is not None:
        held.append(f"quiet hours until {until.isoformat(timespec='seconds')}")
    if gate.open and plan.phase is Phase.DISTRIBUTING and policy.approval and plan.auto and not plan.emergency:
        held.append("your word: citadel root activate")
    return tuple(held)
