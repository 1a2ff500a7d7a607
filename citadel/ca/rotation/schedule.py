"""Schedule: when the root that signs is to be replaced by itself, and what that waits for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from citadel.ca.model import Authority, AuthorityKind, Skid
from citadel.ca.rotation import patience, plugged
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.world import World
from citadel.quiet_hours import QuietHours

ACTOR = "system:schedule"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`root_at`: at which part of its life a root is replaced; 0: never by itself. `issuing_at`: the same of an issuing
    CA. `approval`: the beginning waits for `citadel root approve`. `issuing_ttl`: what an issuing CA is made for; a
    root is replaced before it cuts one short. `policy` tells how long the next root takes to be distributed."""

    root_at: float = 0.8
    issuing_at: float = 0.5
    approval: bool = True
    quiet: QuietHours = field(default_factory=QuietHours)
    issuing_ttl: timedelta = timedelta(days=7)
    policy: RotationPolicy = field(default_factory=RotationPolicy)

    def due_at(self, root: Authority) -> datetime | None:
        """When `root` is to be replaced. Never before half of its life; else so early that it cuts nothing short."""
        if not self.root_at:
            return None
        certificate = root.certificate
        life = certificate.not_after - certificate.not_before
        latest = max(certificate.not_after - 2 * self.issuing_ttl, certificate.not_before + life / 2)
        return min(certificate.not_before + life * self.root_at, latest)

    def begins_at(self, world: World, due: datetime) -> datetime:
        """When what is due then begins, outside of quiet hours if it can wait for that."""
        lives = patience.in_force(world)
        at = max(world.now, due)
        return patience.opens(self.quiet, at, patience.begin_by(*lives, self.policy)) if lives else at

    def quiet_until(self, world: World) -> datetime | None:
        """Until when quiet hours hold up the beginning; None: they do not, or the root in force would not outlast
        them."""
        lives = patience.in_force(world)
        latest = patience.begin_by(*lives, self.policy) if lives else world.now
        return patience.held_until(self.quiet, world.now, latest)


class Waits(StrEnum):
    """What a planned rotation waits for before it begins."""

    NOTHING = ""
    TIME = "time"
    APPROVAL = "approval"
    QUIET_HOURS = "quiet-hours"
    ANOTHER_ROOT = "another-root"  # one that is not ours to make has to be brought
    ANOTHER_ROTATION = "another-rotation"
    CHECK = "check"  # a hook that says no


@dataclass(frozen=True, slots=True)
class Approval:
    """An operator's word that the root may be replaced when its time has come."""

    root: Skid
    actor: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """The next planned rotation: away from `root`, due `at`. `why` says what it waits for; `until`: not before then.
    `taken_back`: when one was, so that only a later word counts."""

    root: Skid
    at: datetime
    waits: Waits
    why: str = ""
    until: datetime | None = None
    approved: Approval | None = None
    needs_approval: bool = False
    taken_back: datetime | None = None


def planned(world: World, schedule: Schedule, approvals: Iterable[Approval], kind: RootKind) -> Planned | None:
    """None: nothing is planned, or the root that signs is being replaced already."""
    root = world.active(AuthorityKind.ROOT)
    due = schedule.due_at(root) if root is not None else None
    if root is None or due is None or any(plan.outgoing == root.skid for plan in world.open_plans()):
        return None
    taken_back = max((plan.phase_at for plan in world.plans if _took_back(plan, root.skid)), default=None)
    needed, approval = schedule.approval or taken_back is not None, _approval(root, taken_back, approvals)
    waits, why, until = _waiting(world, schedule, kind, due, approved=not needed or approval is not None)
    if waits is Waits.APPROVAL and not schedule.approval:
        why = "it was taken back before, and begins again only by your word: citadel root approve"
    return Planned(root.skid, due, waits, why, until, approval, needed, taken_back)


def _waiting(
    world: World, schedule: Schedule, kind: RootKind, due: datetime, *, approved: bool
) -> tuple[Waits, str, datetime | None]:
    if world.now < due:
        return Waits.TIME, f"it is due at {due.isoformat(timespec='seconds')}", due
    if not approved:
        return Waits.APPROVAL, "it waits for your word: citadel root approve", None
    if world.open_plans():
        return Waits.ANOTHER_ROTATION, "another rotation is under way: citadel root status", None
    if kind is RootKind.CACERTS and not plugged.ready(world):
        return Waits.ANOTHER_ROOT, "no plugged-in root lies ready to be rotated to (docs/cacerts.md)", None
    if (until := schedule.quiet_until(world)) is not None:
        return Waits.QUIET_HOURS, f"quiet hours until {until.isoformat(timespec='seconds')}", until
    return Waits.NOTHING, "", None


def _approval(root: Authority, taken_back: datetime | None, approvals: Iterable[Approval]) -> Approval | None:
    """Who took a planned rotation back means it: it does not begin again by an approval from before."""
    given = [a for a in approvals if a.root == root.skid and (taken_back is None or a.at >= taken_back)]
    return max(given, key=lambda a: a.at, default=None)


def _took_back(plan: Plan, root: Skid) -> bool:
    if not plan.planned:
        return False
    return (plan.phase is Phase.ABANDONED and plan.outgoing == root) or (plan.rolled_back and plan.incoming == root)
