"""Plugged-in roots in a rotation: which one lies ready to be taken up, and the plan for one that has come into force.

Adoption (ca.adoption) writes a changed plugged-in root down as PREPARED, with its CA and sealed key; it moves no root.
One that everybody has trusted from the first start it brings into force at once, and the one before is left RETIRING.
"""

from __future__ import annotations

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.step import Step, compose
from citadel.ca.rotation.world import World

_ELSEWHERE = frozenset({KeySource.NONE, KeySource.FILES})


def ready(world: World) -> list[Authority]:
    """Plugged-in roots that wait, and under which somebody could sign; the one plugged in last comes last."""
    waiting = [
        a
        for a in world.authorities
        if a.kind is AuthorityKind.ROOT and a.state is AuthorityState.PREPARED and a.key_source in _ELSEWHERE
    ]
    return sorted((root for root in waiting if _could_sign(root, world)), key=lambda root: root.changed_at)


def unasked(world: World) -> Authority | None:
    """The one to take up without being told to: not one that a rotation has given up before."""
    known = {plan.incoming for plan in world.plans}
    return next((root for root in reversed(ready(world)) if root.skid not in known), None)


def adopt(world: World, policy: RotationPolicy, actor: str) -> Step | None:
    """A plan for a root that retires without one."""
    active = world.active(AuthorityKind.ROOT)
    if active is None or world.bundle is None:
        return None
    planned = {plan.outgoing for plan in world.open_plans()}
    left = [
        a
        for a in world.authorities
        if a.kind is AuthorityKind.ROOT and a.state is AuthorityState.RETIRING and a.skid not in planned
    ]
    if not left:
        return None
    old = left[0]
    plan = Plan(
        id=f"{old.skid.hex[:8]}-{world.bundle.sequence}",  # the same on every server: only one can write it down
        revision=1,
        incoming=active.skid,
        outgoing=old.skid,
        phase=Phase.RETIRING,
        sequence=world.bundle.sequence,
        started_at=world.now,
        phase_at=world.now,
        actor=actor,
        reason="another plugged-in root came into force, which everybody had already",
        auto=policy.plugged_by_itself,
    )
    return compose(
        world,
        f"root {active.skid} signs; certificates of {old.skid} are being replaced",
        actor=actor,
        action="root.adopt",
        subject=old.skid,
        plans=[plan],
        reason=plan.reason,
        detail={"plan": plan.id},
    )


def _could_sign(root: Authority, world: World) -> bool:
    itself = root.key_source is KeySource.FILES
    return itself or any(a.state is AuthorityState.PREPARED for a in world.issuing_under(root.skid))
