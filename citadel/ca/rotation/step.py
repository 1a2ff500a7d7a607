"""A step: everything that one transition changes, carried out by the store in one transaction or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from citadel.audit import AuditEvent, JsonScalar
from citadel.ca.bundle import next_bundle
from citadel.ca.model import Authority, AuthorityCertificate, AuthorityState, SealedKey, Skid, TrustBundle
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.world import World
from citadel.errors import InternalFault


@dataclass(frozen=True, slots=True)
class Move:
    """An authority from one state to another; Aborted if it is not in `expected` any more."""

    skid: Skid
    expected: AuthorityState
    to: AuthorityState
    note: str = ""


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """An authority to write down, with its key. `key` None: it is not with us."""

    authority: Authority
    key: SealedKey | None


@dataclass(frozen=True, slots=True)
class Certified:
    """A further certificate for the key of an authority, with the intermediates above it, under a root."""

    skid: Skid
    certificate: AuthorityCertificate
    chain: tuple[bytes, ...]
    root: Skid


@dataclass(frozen=True, slots=True)
class Step:
    """`plans`: their new values, each one revision further than what is stored (1: new). `bundle`: to be put, if it
    changes; its sequence is one more than what is stored. `sentence` says what it does, for people."""

    audit: AuditEvent
    sentence: str
    moves: tuple[Move, ...] = ()
    new: tuple[NewAuthority, ...] = ()
    certified: tuple[Certified, ...] = ()
    plans: tuple[Plan, ...] = ()
    bundle: TrustBundle | None = None


def moved(authorities: Sequence[Authority], step_moves: Sequence[Move], at: datetime) -> tuple[Authority, ...]:
    """The authorities after these moves."""
    to = {m.skid: m for m in step_moves}
    return tuple(
        replace(a, state=to[a.skid].to, note=to[a.skid].note, changed_at=at) if a.skid in to else a for a in authorities
    )


def compose(
    world: World,
    sentence: str,
    *,
    actor: str,
    action: str,
    subject: Skid,
    plans: Sequence[Plan] = (),
    moves: Sequence[Move] = (),
    new: Sequence[NewAuthority] = (),
    certified: Sequence[Certified] = (),
    reason: str = "",
    detail: dict[str, JsonScalar] | None = None,
    crls: tuple[bytes, ...] | None = None,
) -> Step:
    """A step with the bundle that its moves call for. A new plan's `sequence` is filled in. `crls` None keeps
    those there are."""
    if world.bundle is None:
        raise InternalFault("there is no trust bundle to rotate")
    after = (*moved(world.authorities, moves, world.now), *(n.authority for n in new))
    bundle = next_bundle(world.bundle, after, world.bundle.trust_domain, world.bundle.refresh_hint, crls, now=world.now)
    sequence = bundle.sequence if bundle else world.bundle.sequence
    plans = [replace(p, sequence=sequence) if p.revision == 1 and p.phase is Phase.DISTRIBUTING else p for p in plans]
    told: dict[str, JsonScalar] = {f"{m.skid}": f"{m.expected} to {m.to}" for m in moves}
    told |= {f"certificate of {c.skid}": c.certificate.fingerprint for c in certified}
    if bundle:
        told["bundle"] = bundle.sequence
    event = AuditEvent(world.now, actor, action, subject.hex, told | (detail or {}), reason)
    return Step(event, sentence, tuple(moves), tuple(new), tuple(certified), tuple(plans), bundle)


def changed(plan: Plan, at: datetime, **values: object) -> Plan:
    """The plan one revision further; entering another phase is dated."""
    if "phase" in values and values["phase"] is not plan.phase:
        values.setdefault("phase_at", at)
        values.setdefault("hold", None)
    return replace(plan, revision=plan.revision + 1, **values)  # type: ignore[arg-type]  # names are checked by replace
