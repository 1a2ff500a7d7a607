"""Progress: how all rotations under way stand, in a few numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from citadel.ca.rotation.gates import Gate
from citadel.ca.rotation.plan import Plan


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
