"""What an operator may ask for. Each gives the step to carry out, or raises FailedPrecondition: why not, and the mend.

`force` takes a step although its gate is closed; who is left behind by it is written into the plan and the audit log.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import replace as with_
from datetime import timedelta

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, Skid
from citadel.ca.rotation import transitions
from citadel.ca.rotation.gates import Gate, activation_gate, removal_gate
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.revocation import gap
from citadel.ca.rotation.step import Certified, NewAuthority, Step, changed, compose
from citadel.ca.rotation.world import World
from citadel.errors import FailedPrecondition, NotFound

A = AuthorityState
_STATUS = "see: citadel root status"


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks, and why."""

    actor: str
    reason: str = ""
    force: bool = False


def may_prepare(world: World, *, replace: bool) -> Plan | None:
    """The plan that a new one would replace, or None. To be asked before a key is made.

    Raises FailedPrecondition if another root is on its way, unless `replace`.
    """
    if world.active(AuthorityKind.ROOT) is None:
        raise FailedPrecondition("no root is in force yet, so there is none to rotate", mend="see: citadel status")
    present = world.distributing()
    if present is not None and not replace:
        raise FailedPrecondition(
            f"root {present.incoming} is on its way already (plan {present.id} of {present.actor})",
            mend="go on with it (citadel root status), abandon it (citadel root abandon), or add --replace",
        )
    return present


def prepare(
    world: World,
    skid: Skid,
    issuing: NewAuthority | None,
    wish: Wish,
    *,
    plan_id: str,
    longest_leaf: timedelta,
    auto: bool = True,
    emergency: bool = False,
    unasked: bool = False,
    replace: bool = False,
    planned: bool = False,
    certified: Certified | None = None,
) -> Step:
    """Begin: the prepared root `skid` goes into the bundle; `issuing` is to sign under it (None: it lies ready).

    Raises FailedPrecondition if another is on its way, its key was in use, or its certificate does not fit the time.
    """
    replaced = may_prepare(world, replace=replace)
    _check_new(world, _root(world, skid), longest_leaf)
    active = world.active(AuthorityKind.ROOT)
    assert active is not None  # may_prepare saw it
    plan = Plan(
        id=plan_id,
        revision=1,
        incoming=skid,
        outgoing=active.skid,
        phase=Phase.DISTRIBUTING,
        sequence=0,
        started_at=world.now,
        phase_at=world.now,
        actor=wish.actor,
        reason=wish.reason,
        auto=auto,
        emergency=emergency,
        unasked=unasked,
        planned=planned,
    )
    return _beside(transitions.begin(plan, issuing, world, replaces=replaced, certified=certified), world)


def activate(world: World, policy: RotationPolicy, wish: Wish) -> Step:
    """Let the root that is being distributed sign."""
    plan = world.distributing()
    if plan is None:
        raise FailedPrecondition("no root is being distributed", mend="begin with: citadel root prepare")
    gate = activation_gate(plan, world, policy)
    _check_gate(
        gate, wish, f"root {plan.incoming} cannot sign yet", "wait for them, or add --force to leave them behind"
    )
    behind = [*(b.sentence for b in gate.behind), *_overridden(plan, wish)]
    if without_crls := bool(gap(plan.incoming, world)):
        behind.append("revocations: the CRLs were taken out of the bundle, and what they name is trusted again")
    return transitions.activate(
        plan, world, actor=wish.actor, reason=wish.reason, left_behind=behind, without_crls=without_crls
    )


def remove(world: World, policy: RotationPolicy, skid: Skid, wish: Wish) -> Step:
    """Take a root that retires, or is tainted, out of the bundle. This cannot be taken back."""
    root = _root(world, skid)
    plan = world.retiring(skid)
    if plan is None:
        raise FailedPrecondition(
            f"root {skid} is {root.state}; only one that retires can be removed", mend=_ways_on(root)
        )
    gate = removal_gate(plan, world, policy)
    _check_gate(gate, wish, f"root {skid} is still needed", "wait, or add --force to cut them off")
    left = [*(f"{g.count} certificates of {g.spiffe_id}" for g in gate.leaves), *_overridden(plan, wish)]
    return transitions.take_out(plan, world, actor=wish.actor, reason=wish.reason, left_behind=left)


def revoke(world: World, policy: RotationPolicy, skid: Skid, wish: Wish) -> Step:
    """As `remove`, of a root that was tainted."""
    root = _root(world, skid)
    if root.state is not A.TAINTED:
        over = root.state in (A.REVOKED, A.REMOVED, A.ABANDONED)
        raise FailedPrecondition(
            f"root {skid} is {root.state}; only a tainted root can be revoked",
            mend=_STATUS if over else f"first: citadel root taint {skid}",
        )
    return remove(world, policy, skid, wish)


def abandon(world: World, wish: Wish) -> Step:
    """Take the root that is being distributed out of the bundle again."""
    plan = world.distributing()
    if plan is None:
        active = world.active(AuthorityKind.ROOT)
        signs = any(active is not None and p.incoming == active.skid for p in world.open_plans())
        raise FailedPrecondition(
            "no root is being distributed, so there is nothing to abandon"
            + (f": root {active.skid} signs already" if active is not None and signs else ""),
            mend="go back from it: citadel root rollback" if signs else _STATUS,
        )
    return _beside(transitions.withdraw(plan, world, A.ABANDONED, actor=wish.actor, reason=wish.reason), world)


def rollback(world: World, wish: Wish, *, to: Skid | None = None) -> Step:
    """Go back: before activation as `abandon`; after it the old root signs again. Once it is removed, never.

    Said twice it does not undo itself: from a plan that is rolled back it goes only `to` a root that is named.
    """
    active = world.active(AuthorityKind.ROOT)
    if to is not None and active is not None and to == active.skid and world.distributing() is None:
        raise FailedPrecondition(f"root {to} signs already, so there is nothing to roll back", mend=_STATUS)
    plan = world.distributing()
    if plan is not None:
        if to not in (None, plan.outgoing):
            raise FailedPrecondition(
                f"root {plan.incoming} is on its way; before another root can sign again, it has to be abandoned",
                mend="first: citadel root abandon",
            )
        return _beside(transitions.withdraw(plan, world, A.ABANDONED, actor=wish.actor, reason=wish.reason), world)
    retiring = [p for p in world.open_plans() if active is not None and p.incoming == active.skid]
    if to is not None:
        _root(world, to)
        if retiring and not any(p.outgoing == to for p in retiring):
            raise FailedPrecondition(
                f"no rotation under way goes back to root {to}",
                mend=f"one of these can sign again: {', '.join(p.outgoing.hex[:8] for p in retiring)}",
            )
        retiring = [p for p in retiring if p.outgoing == to]
    if not retiring and active is not None and (left := world.open_plans()):
        roots = ", ".join(p.outgoing.hex[:8] for p in left)
        raise FailedPrecondition(
            f"nothing leads back from root {active.skid}, which signs: the one before it is removed, and from {roots}, "
            "on its way out still, another root had taken over",
            mend="rotate to a new root: citadel root rotate",
        )
    if not retiring:
        raise FailedPrecondition(
            "no rotation is under way; a root that was removed cannot come back, since clients have forgotten it",
            mend="rotate to a new root: citadel root rotate",
        )
    plan = retiring[-1]
    if plan.rolled_back and to is None:
        ways = " or ".join(f"citadel root rollback {p.outgoing.hex[:8]}" for p in reversed(retiring))
        raise FailedPrecondition(
            f"plan {plan.id} is rolled back already: root {plan.incoming} signs again, and root {plan.outgoing}, "
            "which was to take its place, is on its way out; nothing was changed",
            mend=f"nothing is left to do; to have another root sign on purpose, name it: {ways}",
        )
    old = _root(world, plan.outgoing)
    if old.state is not A.RETIRING:
        raise FailedPrecondition(
            f"root {old.skid} is {old.state}: its key is not to be used again", mend="rotate to a new root instead"
        )
    if old.certificate.not_after <= world.now:
        raise FailedPrecondition(f"root {old.skid} has expired", mend="rotate to a new root instead")
    if unrevoked := gap(old.skid, world):
        raise FailedPrecondition(unrevoked, mend="do one of the two, and try again")
    return _beside(transitions.roll_back(plan, world, actor=wish.actor, reason=wish.reason), world)


def taint(world: World, skid: Skid, wish: Wish, *, unasked: bool = False) -> Step | None:
    """A root's key is compromised. None: it signs now and no other root is on its way: prepare one, as an emergency.

    Of a root that never signed: out at once. Of one that signed: it is revoked when nothing in use chains to it. Of
    the one that signs: the rotation under way becomes an emergency.
    """
    root = _root(world, skid)
    distributing = world.distributing()
    if distributing is not None and distributing.incoming == skid:
        return transitions.withdraw(distributing, world, A.REVOKED, actor=wish.actor, reason=wish.reason)
    if root.state is A.ACTIVE:
        if distributing is None:
            return None
        urgent = changed(distributing, world.now, emergency=True, auto=True, unasked=unasked)
        return compose(
            world,
            f"the key of root {skid} is compromised: root {distributing.incoming} takes its place in an emergency",
            actor=wish.actor,
            action="root.taint",
            subject=skid,
            plans=[urgent],
            reason=wish.reason,
            detail={"plan": distributing.id},
        )
    plan = world.retiring(skid)
    if root.state is A.RETIRING and plan is not None:
        return transitions.taint_retiring(plan, world, actor=wish.actor, reason=wish.reason)
    raise FailedPrecondition(f"root {skid} is {root.state}; there is nothing left to taint", mend=_STATUS)


def certifiers(world: World, skid: Skid) -> list[Authority]:
    """The roots in force, or on their way out, that certified this one (cross_signing): what it signs verifies by them,
    whether it is in the bundle itself or not."""
    by = {c.issuer_skid for c in _root(world, skid).certificates} - {skid}
    return [a for a in world.authorities if a.skid in by and a.state in (A.ACTIVE, A.RETIRING)]


def others(world: World, plan_ids: Collection[str] = ()) -> str:
    """What is said of the rotations that are under way besides these; "" if there are none."""
    found = [p for p in world.open_plans() if p.id not in plan_ids]
    told = ", ".join(f"plan {p.id}, root {p.outgoing.hex[:8]} -> {p.incoming.hex[:8]}, {p.phase}" for p in found)
    is_ = "another rotation is" if len(found) == 1 else f"{len(found)} other rotations are"
    return f"; {is_} under way still ({told}): citadel root status" if found else ""


def _beside(step: Step, world: World) -> Step:
    """The step, whose sentence also tells which plan it takes further, and what goes on beside it."""
    if not (text := others(world, [plan.id for plan in step.plans])):
        return step
    return with_(step, sentence=f"plan {step.plans[0].id}: {step.sentence}{text}")


def _check_new(world: World, root: Authority, longest_leaf: timedelta) -> None:
    certificate = root.certificate
    if root.state is not A.PREPARED:
        raise FailedPrecondition(
            f"the key {root.skid} of {certificate.subject} is in use already, or was (it is {root.state})",
            mend="make a new key: a root is known by its key",
        )
    if certificate.not_before > world.now:
        raise FailedPrecondition(
            f"root {root.skid} is not valid before {certificate.not_before.isoformat()}",
            mend="wait until then, or check this machine's clock",
        )
    if certificate.not_after - world.now < 2 * longest_leaf:
        raise FailedPrecondition(
            f"root {root.skid} ends at {certificate.not_after.isoformat()}, too soon for leaves of {longest_leaf}",
            mend="make it for longer",
        )


def _check_gate(gate: Gate, wish: Wish, what: str, mend: str) -> None:
    if not gate.open and not wish.force:
        raise FailedPrecondition(f"{what}: {'; '.join(gate.why)}", mend=mend)


def _overridden(plan: Plan, wish: Wish) -> list[str]:
    """What is written down of a hook that was not listened to."""
    return [f"a hook that did not let it {plan.hold.step}: {plan.hold.why}"] if plan.hold and wish.force else []


def _root(world: World, skid: Skid) -> Authority:
    found = world.find(skid)
    if found is None or found.kind is not AuthorityKind.ROOT:
        raise NotFound(f"there is no root {skid}", mend="see: citadel ca list")
    return found


def _ways_on(root: Authority) -> str:
    match root.state:
        case A.ACTIVE:
            return "rotate it first: citadel root rotate"
        case A.DISTRIBUTING:
            return "abandon it: citadel root abandon"
        case _:
            return _STATUS
