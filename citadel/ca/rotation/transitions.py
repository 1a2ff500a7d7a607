"""Transitions: which authorities move, and what becomes of the plan. Whether they may is decided before."""

from __future__ import annotations

from collections.abc import Sequence

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.step import Certified, Move, NewAuthority, Step, changed, compose
from citadel.ca.rotation.world import World
from citadel.errors import FailedPrecondition

A = AuthorityState
_SIGNS_NEXT = (A.PREPARED, A.RETIRING)


def begin(
    plan: Plan,
    issuing: NewAuthority | None,
    world: World,
    *,
    replaces: Plan | None,
    certified: Certified | None = None,
) -> Step:
    """The new root, which is durable with its key, goes into the bundle; an issuing CA waits under it: one that was
    made, or one that was prepared long before, and has its certificate now."""
    moves = [Move(plan.incoming, A.PREPARED, A.DISTRIBUTING)]
    moves += [Move(certified.skid, A.PREPARED, A.PREPARED)] if certified else []
    plans = [plan]
    if replaces is not None:
        moves += _withdrawn(replaces, world, A.ABANDONED)
        plans.append(changed(replaces, world.now, phase=Phase.ABANDONED))
    return compose(
        world,
        f"root {plan.incoming} is in the trust bundle; clients acknowledge it",
        actor=plan.actor,
        action="root.prepare",
        subject=plan.incoming,
        plans=plans,
        moves=moves,
        new=[issuing] if issuing else [],
        certified=[certified] if certified else [],
        reason=plan.reason,
        detail={"plan": plan.id, "emergency": plan.emergency},
    )


def activate(
    plan: Plan,
    world: World,
    *,
    actor: str,
    reason: str = "",
    left_behind: Sequence[str] = (),
    without_crls: bool = False,
) -> Step:
    """From here on leaves are signed under the new root. The old one signs nothing more, and stays in the bundle."""
    stop = A.TAINTED if plan.emergency else A.RETIRING
    moves = [
        *_signing(plan.incoming, world),
        *_stopping(plan.outgoing, world, stop),
    ]
    return compose(
        world,
        f"root {plan.incoming} signs; certificates of {plan.outgoing} are being replaced",
        actor=actor,
        action="root.activate",
        subject=plan.incoming,
        plans=[
            changed(plan, world.now, phase=Phase.RETIRING, left_behind=(*plan.left_behind, *left_behind)),
        ],
        moves=moves,
        reason=reason,
        detail={"plan": plan.id, "left_behind": len(left_behind)},
        crls=() if without_crls else None,
    )


def roll_back(plan: Plan, world: World, *, actor: str, reason: str = "") -> Step:
    """The old root signs again, and the new one is on its way out by the same gates. The old one never left the bundle,
    so everybody trusts it."""
    swapped = changed(
        plan,
        world.now,
        incoming=plan.outgoing,
        outgoing=plan.incoming,
        rolled_back=not plan.rolled_back,
        replaced_at=None,
        phase_at=world.now,
        hold=None,
    )
    return compose(
        world,
        f"root {plan.outgoing} signs again; certificates of {plan.incoming} are being replaced",
        actor=actor,
        action="root.rollback",
        subject=plan.outgoing,
        plans=[swapped],
        moves=[*_signing(plan.outgoing, world), *_stopping(plan.incoming, world, A.RETIRING)],
        reason=reason,
        detail={"plan": plan.id},
    )


def take_out(plan: Plan, world: World, *, actor: str, reason: str = "", left_behind: Sequence[str] = ()) -> Step:
    """The old root leaves the bundle: removed, or revoked if its key was compromised."""
    old = _known(plan.outgoing, world)
    to = A.REVOKED if old.state is A.TAINTED else A.REMOVED
    moves = [Move(old.skid, old.state, to)]
    moves += [Move(a.skid, a.state, to) for a in world.issuing_under(old.skid) if a.state in (A.RETIRING, A.TAINTED)]
    done = changed(plan, world.now, phase=Phase.DONE, left_behind=(*plan.left_behind, *left_behind))
    return compose(
        world,
        f"root {old.skid} is {to} and out of the trust bundle",
        actor=actor,
        action="root.revoke" if to is A.REVOKED else "root.remove",
        subject=old.skid,
        plans=[done],
        moves=moves,
        reason=reason,
        detail={"plan": plan.id, "left_behind": len(left_behind)},
    )


def withdraw(plan: Plan, world: World, to: AuthorityState, *, actor: str, reason: str = "") -> Step:
    """The new root leaves the bundle before it signed anything: abandoned, or revoked if its key was compromised."""
    return compose(
        world,
        f"root {plan.incoming} is {to} and out of the trust bundle; nothing was ever signed under it",
        actor=actor,
        action="root.abandon" if to is A.ABANDONED else "root.revoke",
        subject=plan.incoming,
        plans=[changed(plan, world.now, phase=Phase.ABANDONED)],
        moves=_withdrawn(plan, world, to),
        reason=reason,
        detail={"plan": plan.id},
    )


def taint_retiring(plan: Plan, world: World, *, actor: str, reason: str = "") -> Step:
    """A root that signs no more is known to be compromised: nothing waits for old connections any longer."""
    return compose(
        world,
        f"root {plan.outgoing} is tainted; it leaves the bundle as soon as no certificate in use chains to it",
        actor=actor,
        action="root.taint",
        subject=plan.outgoing,
        plans=[changed(plan, world.now, emergency=True)],
        moves=_stopping(plan.outgoing, world, A.TAINTED),
        reason=reason,
        detail={"plan": plan.id},
    )


def _signing(root: Skid, world: World) -> list[Move]:
    """The root and the newest of its issuing CAs that can sign become active; or the root alone, if it signs itself."""
    authority = _known(root, world)
    able = [a for a in world.issuing_under(root) if a.state in _SIGNS_NEXT and a.certificate.not_after > world.now]
    if not able and authority.key_source is KeySource.FILES:
        return [Move(root, authority.state, A.ACTIVE)]  # plugged in, and signs leaves itself
    able = [a for a in able if a.certificate.not_before <= world.now]
    if not able:
        raise FailedPrecondition(
            f"no issuing CA under the root {root} can sign now",
            mend="check this machine's clock; or abandon this rotation and prepare another root",
        )
    newest = max(able, key=lambda a: (a.certificate.not_after, a.created_at))
    return [Move(root, authority.state, A.ACTIVE), Move(newest.skid, newest.state, A.ACTIVE)]


def _stopping(root: Skid, world: World, to: AuthorityState) -> list[Move]:
    authority = _known(root, world)
    issuing = [a for a in world.issuing_under(root) if a.state in (A.ACTIVE, A.RETIRING) and a.state is not to]
    return [Move(root, authority.state, to), *(Move(a.skid, a.state, to) for a in issuing)]


def _withdrawn(plan: Plan, world: World, to: AuthorityState) -> list[Move]:
    root = _known(plan.incoming, world)
    return [
        Move(root.skid, root.state, to),
        *(Move(a.skid, a.state, to) for a in world.issuing_under(root.skid) if a.state is A.PREPARED),
    ]


def _known(skid: Skid, world: World) -> Authority:
    found = world.find(skid)
    if found is None or found.kind is not AuthorityKind.ROOT:
        raise FailedPrecondition(f"there is no root {skid}", mend="see: citadel ca list")
    return found
