"""What happens by itself: one step at a time, for as long as a gate is open."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from citadel.ca.rotation import patience, plugged, transitions
from citadel.ca.rotation.clients import Behind, Standing, stand
from citadel.ca.rotation.gates import activation_gate, removal_gate
from citadel.ca.rotation.plan import Excused, Hold, Phase, Plan
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.revocation import gap
from citadel.ca.rotation.step import Step, changed, compose
from citadel.ca.rotation.world import World

ACTOR = "system:rotation"


def tick(world: World, policy: RotationPolicy, *, held: Collection[str] = ()) -> Step | None:
    """The next step that is due, or None. Carry it out, read the world again, and call again.

    `held`: plans whose root neither signs nor leaves the bundle now, since a hook says no.
    """
    if (adopted := plugged.adopt(world, policy, ACTOR)) is not None:
        return adopted
    # An emergency first: the others may have to ask a hook, which takes its time.
    for plan in sorted(world.open_plans(), key=lambda plan: not plan.emergency):
        step = _redated(plan, world) or _next(plan, world, policy, plan.id in held)
        if step is not None:
            return step
    return None


def _next(plan: Plan, world: World, policy: RotationPolicy, held: bool) -> Step | None:
    if plan.phase is Phase.DISTRIBUTING:
        return _excuse(plan, world, policy) or (None if held else _activate(plan, world, policy))
    return _note_replaced(plan, world, policy) or (None if held else _take_out(plan, world, policy))


def note_hold(plan: Plan, world: World, step: str, why: str) -> Step | None:
    """Write down what a hook said; None: it is written down already."""
    if plan.hold is not None and (plan.hold.step, plan.hold.why) == (step, why):
        return None
    since = plan.hold.since if plan.hold is not None and plan.hold.step == step else world.now
    held = changed(plan, world.now, hold=Hold(step, why, since))
    return _note(held, world, "root.hold", f"a hook does not let it {step}: {why}")


def _redated(plan: Plan, world: World) -> Step | None:
    """The clock went back behind what was written down: waiting begins anew, rather than for as long as it went."""
    if plan.phase_at <= world.now and (plan.replaced_at is None or plan.replaced_at <= world.now):
        return None
    again = changed(plan, world.now, phase_at=world.now, replaced_at=None)
    return _note(again, world, "root.redate", "the clock went back; this phase's waiting begins again")


def _excuse(plan: Plan, world: World, policy: RotationPolicy) -> Step | None:
    """Write down whose grace has ended. Who rejected the bundle, or has its trust from elsewhere, is never excused."""
    late = (stand(c, plan.sequence, plan.phase_at) for c in world.expected(policy))
    over = [b for b in late if b is not None and _grace_is_over(b, plan, world, policy)]
    if not over:
        return None
    added = tuple(Excused(b.node, b.client, b.since, world.now) for b in over)
    names = ", ".join(b.sentence for b in over)
    return _note(
        changed(plan, world.now, excused=(*plan.excused, *added)),
        world,
        "root.excuse",
        f"no longer waited for: {names}",
    )


def _grace_is_over(behind: Behind, plan: Plan, world: World, policy: RotationPolicy) -> bool:
    silent = behind.standing in (Standing.SILENT, Standing.GONE)
    # Silent before this plan began counts from its beginning: nothing was asked of it before.
    since = max(behind.since, plan.phase_at)
    return silent and world.now - since >= policy.grace and not plan.excuses(behind.node, behind.client)


def _activate(plan: Plan, world: World, policy: RotationPolicy) -> Step | None:
    if not plan.auto or (policy.approval and not plan.emergency) or quiet_until(plan, world, policy) is not None:
        return None
    gate = activation_gate(plan, world, policy)
    if gate.open:
        return transitions.activate(plan, world, actor=ACTOR)
    over = world.now - plan.phase_at >= policy.emergency_gate
    if plan.emergency and plan.unasked and over and not gap(plan.incoming, world):  # that would leave behind everybody
        behind = [b.sentence for b in gate.behind]
        return transitions.activate(plan, world, actor=ACTOR, left_behind=behind)
    return None


def quiet_until(plan: Plan, world: World, policy: RotationPolicy) -> datetime | None:
    """Until when quiet hours hold it up; None: they do not. What an operator began, or an emergency, is not held; nor
    is a root kept from signing that is to take the place of one that ends."""
    if not plan.planned or plan.emergency:
        return None
    lives = patience.in_force(world)
    if plan.phase is not Phase.DISTRIBUTING or lives is None:
        return policy.quiet.until(world.now)
    return patience.held_until(policy.quiet, world.now, patience.sign_by(*lives))


def _note_replaced(plan: Plan, world: World, policy: RotationPolicy) -> Step | None:
    """Connections made with old leaves can only be as young as the moment when none was in use any more."""
    used = bool(world.leaves_of(plan.outgoing, policy.clock_skew))
    if used == (plan.replaced_at is None):
        return None
    at = None if used else world.now
    text = "is used again" if used else "is no longer used by any certificate"
    return _note(changed(plan, world.now, replaced_at=at), world, "root.replaced", f"root {plan.outgoing} {text}")


def _take_out(plan: Plan, world: World, policy: RotationPolicy) -> Step | None:
    if plan.auto and quiet_until(plan, world, policy) is None and removal_gate(plan, world, policy).open:
        return transitions.take_out(plan, world, actor=ACTOR)
    return None


def _note(plan: Plan, world: World, action: str, sentence: str) -> Step:
    subject = plan.incoming if plan.phase is Phase.DISTRIBUTING else plan.outgoing
    return compose(
        world,
        sentence,
        actor=ACTOR,
        action=action,
        subject=subject,
        plans=[plan],
        detail={"plan": plan.id, "what": sentence[:1000]},
    )
