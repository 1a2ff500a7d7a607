"""Calendar: what the schedule will do in a stretch of time, and what would break in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from citadel.ca.model import Authority, AuthorityKind, KeySource
from citadel.ca.rotation.findings import Facts, Finding, findings
from citadel.ca.rotation.gates import removal_gate
from citadel.ca.rotation.patience import begin_by, opens, sign_by
from citadel.ca.rotation.plan import Phase
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.schedule import Planned, Schedule
from citadel.ca.rotation.world import World

_MOST = 2000
_OURS_TO_RENEW = frozenset({KeySource.SEALED, KeySource.VAULT})  # roots under which Citadel makes issuing CAs


class Event(StrEnum):
    PREPARE = "prepare"  # a root is made, and goes into the trust bundle
    ACTIVATE = "activate"  # it signs
    REMOVE = "remove"  # the one before leaves the bundle
    RENEW = "renew"  # another issuing CA signs
    ENDS = "ends"  # nothing takes its place by itself


@dataclass(frozen=True, slots=True)
class Entry:
    """`authority`: the SKID, as far as there is one; else `root 2`, `issuing CA 3`: the ones that are to be made.
    `at`: the earliest moment, when all who must acknowledge do so at once and nobody is asked."""

    at: datetime
    kind: AuthorityKind
    event: Event
    authority: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calendar:
    begins: datetime
    ends: datetime
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]
    planned: Planned | None = None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What is made, for how long; and how many leaves are reissued each second."""

    root: timedelta
    issuing: timedelta
    leaf: timedelta  # the longest
    reissue_per_second: float


@dataclass(frozen=True, slots=True)
class _Root:
    """One that signs from `signs` on. `made`: its issuing CA is as old."""

    name: str
    made: datetime
    signs: datetime
    begins: datetime
    ends: datetime


def calendar(
    world: World,
    policy: RotationPolicy,
    schedule: Schedule,
    lives: Lifetimes,
    kind: RootKind,
    makes_roots: bool,
    planned: Planned | None,
    until: datetime,
) -> Calendar:
    """From now `until` then. Of roots that are not ours to make, only the next one is known."""
    root, signer = world.active(AuthorityKind.ROOT), world.active(AuthorityKind.ISSUING)
    facts = Facts(world, policy, schedule, lives.leaf, kind, planned, until)
    if root is None:
        return Calendar(world.now, until, (), tuple(findings(facts)), planned)
    reign = list(_reign(root, world, policy, schedule, lives, makes_roots, until))
    known = {plan.incoming.hex for plan in world.open_plans()}
    steps = _roots(reign, policy, schedule, lives, _leaves(world, root))
    entries = [e for e in steps if e.authority not in known or e.event is not Event.PREPARE]
    entries += _under_way(world, policy)
    ends = None
    if signer is not None and signer.key_source is not KeySource.FILES and root.key_source in _OURS_TO_RENEW:
        renewals = list(_renewals(signer, reign, schedule, lives, until))
        entries += renewals
    elif signer is not None:
        ends = signer
        entries.append(_ends(signer))
    replaced = len(reign) > 1 and reign[1].signs < root.certificate.not_after
    if root.certificate.not_after <= until and not replaced:
        entries.append(_ends(root))
    kept = sorted((e for e in entries if e.at <= until), key=lambda e: (e.at, e.kind, e.event))
    return Calendar(world.now, until, tuple(kept[:_MOST]), tuple(findings(facts, signer_ends=ends)), planned)


def _ends(one: Authority) -> Entry:
    return Entry(one.certificate.not_after, one.kind, Event.ENDS, one.skid.hex)


def _under_way(world: World, policy: RotationPolicy) -> Iterator[Entry]:
    """Old roots that are on their way out already."""
    for plan in world.open_plans():
        if plan.phase is Phase.RETIRING:
            text = f"under way ({plan.id}): citadel root status"
            at = removal_gate(plan, world, policy).opens_at or world.now
            yield Entry(at, AuthorityKind.ROOT, Event.REMOVE, plan.outgoing.hex, text)


def _reign(
    root: Authority,
    world: World,
    policy: RotationPolicy,
    schedule: Schedule,
    lives: Lifetimes,
    makes_roots: bool,
    until: datetime,
) -> Iterator[_Root]:
    """The roots that sign, one after another."""
    certificate = root.certificate
    yield _Root(root.skid.hex, world.now, world.now, certificate.not_before, certificate.not_after)
    now, due, number = world.now, schedule.due_at(root), 2
    life = (certificate.not_before, certificate.not_after)
    under_way = world.distributing()
    incoming = world.find(under_way.incoming) if under_way is not None else None
    if incoming is not None:
        now, life = world.now + distribution(policy), (incoming.certificate.not_before, incoming.certificate.not_after)
        yield _Root(incoming.skid.hex, incoming.created_at, now, *life)
        due = schedule.due_at(incoming)
    while due is not None and number < _MOST:
        prepare = opens(schedule.quiet, max(now, due), begin_by(*life, policy))
        activate = opens(schedule.quiet, prepare + distribution(policy), sign_by(*life))
        if prepare > until:
            return
        yield _Root(f"root {number}", prepare, activate, prepare, prepare + lives.root)
        if not makes_roots:
            return  # how long the one after it will live, nobody can know
        latest = max(prepare + lives.root - 2 * lives.issuing, prepare + lives.root / 2)
        life = (prepare, prepare + lives.root)
        now, due, number = activate, min(prepare + lives.root * schedule.root_at, latest), number + 1


def distribution(policy: RotationPolicy) -> timedelta:
    """How long a new root is distributed at the least."""
    return max(policy.reconnect_window, policy.assumed_after)


def _leaves(world: World, root: Authority) -> int:
    return sum(group.count for group in world.leaves_of(root.skid, timedelta(0)))


def _roots(
    reign: list[_Root], policy: RotationPolicy, schedule: Schedule, lives: Lifetimes, leaves: int
) -> Iterator[Entry]:
    for old, new in pairwise(reign):
        waits = "after your approval" if schedule.approval else ""
        yield Entry(new.made, AuthorityKind.ROOT, Event.PREPARE, new.name, waits)
        signs = "when all have acknowledged it"
        signs = f"{signs}, after your word: citadel root activate" if policy.approval else signs
        yield Entry(new.signs, AuthorityKind.ROOT, Event.ACTIVATE, new.name, signs)
        reissued = new.signs + timedelta(seconds=leaves / lives.reissue_per_second)
        gone = schedule.quiet.open_from(reissued + policy.session_life + policy.reconnect_window)
        if gone is not None:
            yield Entry(gone, AuthorityKind.ROOT, Event.REMOVE, old.name, "when nothing in use chains to it")


def _renewals(
    signer: Authority, reign: list[_Root], schedule: Schedule, lives: Lifetimes, until: datetime
) -> Iterator[Entry]:
    """As lifetimes.Renewal does it; a new root comes with an issuing CA of its own."""
    made, ends = max(signer.created_at, signer.certificate.not_before), signer.certificate.not_after
    number, roots = 2, list(reign)
    for _ in range(_MOST):
        life = ends - made
        due = min(made + life * schedule.issuing_at, ends - min(2 * lives.leaf, life * 0.9))
        latest = ends - min(2 * lives.leaf, life * 0.9)
        at = max(reign[0].signs, due)
        at = min(schedule.quiet.open_from(at) or latest, max(latest, at))
        if len(roots) > 1 and roots[1].signs <= at:
            roots.pop(0)
            made, ends = roots[0].made, min(roots[0].made + lives.issuing, roots[0].ends)
            yield Entry(roots[0].signs, AuthorityKind.ISSUING, Event.RENEW, f"issuing CA {number}", "with its root")
        else:
            renewed = min(at + lives.issuing, roots[0].ends)
            if renewed - ends < lives.issuing / 20:
                yield Entry(ends, AuthorityKind.ISSUING, Event.ENDS, f"issuing CA {number - 1}", "its root ends")
                return
            made, ends = at, renewed
            yield Entry(at, AuthorityKind.ISSUING, Event.RENEW, f"issuing CA {number}")
        number += 1
        if at > until:
            return
