"""Candidates: the root that a rotation would go to, if one is there already."""

from __future__ import annotations

from datetime import timedelta

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.rotation import plugged
from citadel.ca.rotation.policy import RootKind
from citadel.ca.rotation.world import World
from citadel.errors import FailedPrecondition

_FRESH = timedelta(days=7)


def taken(kind: RootKind, world: World, issuer: str = "") -> str:
    """What would be taken, as the beginning of a sentence. Raises FailedPrecondition."""
    match kind:
        case RootKind.DISK:
            return "a new root would be made and"
        case RootKind.CACERTS:
            return f"the plugged-in root {plugged_in(world).skid} would"
        case RootKind.VAULT:
            return f"the root of the issuer {issuer} in Vault would" if issuer else "the pinned root in Vault would"


def plugged_in(world: World) -> Authority:
    """The plugged-in root that lies ready. Raises FailedPrecondition if none does."""
    found = plugged.ready(world)
    if not found:
        raise FailedPrecondition(
            "no plugged-in root lies ready, with a CA under it, to be rotated to",
            mend="put another CA with its root into the folder (docs/cacerts.md), or: citadel root prepare --to disk",
        )
    return found[-1]


def orphans(world: World, kind: RootKind) -> list[Authority]:
    """Prepared roots of ours that no plan knows: a start was cut off between making one and beginning its plan. (One in
    Vault is found again by whoever makes it: another may be pinned now.) Not those from long ago: their life is partly
    over, and they are not what the settings of now ask for; nor those whose key lay where another was stolen."""
    if kind is not RootKind.DISK:
        return []
    known = {plan.incoming for plan in world.plans}
    stolen = max((max(plan.started_at, plan.phase_at) for plan in world.plans if plan.emergency), default=None)
    return [
        a
        for a in world.authorities
        if a.state is AuthorityState.PREPARED
        and a.kind is AuthorityKind.ROOT
        and a.skid not in known
        and world.now - a.created_at < _FRESH
        and (stolen is None or a.created_at > stolen)
        and not a.note
        and a.key_source is KeySource.SEALED
    ]
