"""Findings: what of the schedule, or of what it leaves alone, would break. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from citadel.ca.certificates import read_certificate
from citadel.ca.model import Authority, AuthorityKind, KeySource
from citadel.ca.rotation.patience import begin_by, distributed_by, opens, sign_by
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.schedule import Planned, Schedule, Waits
from citadel.ca.rotation.world import World


class Severity(StrEnum):
    ERROR = "error"  # something stops, unless somebody acts
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    sentence: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    world: World
    policy: RotationPolicy
    schedule: Schedule
    longest_leaf: timedelta
    kind: RootKind
    planned: Planned | None
    until: datetime


def findings(facts: Facts, *, signer_ends: Authority | None = None) -> Iterator[Finding]:
    """`signer_ends`: the CA that signs, if Citadel cannot renew it."""
    yield from _quiet(facts)
    root = facts.world.active(AuthorityKind.ROOT)
    if root is None:
        yield Finding(Severity.ERROR, "no root is in force", "see: citadel status")
        return
    yield from _root(root, facts)
    yield from _signer(root, facts, signer_ends)
    yield from _waiting(facts)


def _quiet(facts: Facts) -> Iterator[Finding]:
    quiet = facts.schedule.quiet
    if quiet.always:
        yield Finding(
            Severity.ERROR,
            "the quiet hours leave no minute of the week: a planned rotation begins when its root is about to end",
            "leave a window in rotation.schedule.quiet_hours",
        )
    elif quiet.open_minutes < 60:
        yield Finding(
            Severity.WARNING,
            f"the quiet hours leave {quiet.open_minutes} minutes of a week: each step of a rotation waits for them",
            "leave more room in rotation.schedule.quiet_hours",
        )


def _root(root: Authority, facts: Facts) -> Iterator[Finding]:
    ends, now = root.certificate.not_after, facts.world.now
    name = f"root {root.skid}"
    replaced = any(plan.outgoing == root.skid for plan in facts.world.open_plans())
    if ends <= now:
        yield Finding(Severity.ERROR, f"{name} has expired at {_at(ends)}: nothing verifies", "citadel root rotate")
        return
    if replaced:
        distributed = now + distributed_by(facts.policy)
        if distributed >= ends:
            yield Finding(
                Severity.ERROR,
                f"{name} ends at {_at(ends)}, and who is silent is waited for until {_at(distributed)}: "
                "it expires before its replacement is distributed",
                "see who holds it up: citadel root status",
            )
        return
    if facts.planned is None:
        if ends <= facts.until:
            yield Finding(
                Severity.ERROR,
                f"{name} ends at {_at(ends)}, and nothing is planned to replace it",
                "citadel root rotate, or set rotation.schedule.root_at",
            )
        return
    life = (root.certificate.not_before, ends)
    due, latest = max(now, facts.planned.at), begin_by(*life, facts.policy)
    begins = opens(facts.schedule.quiet, due, latest)
    distributed = opens(facts.schedule.quiet, begins + distributed_by(facts.policy), sign_by(*life))
    if facts.schedule.quiet.until(begins) is not None:
        yield Finding(
            Severity.WARNING,
            f"{name} ends at {_at(ends)}, before the quiet hours leave room for its replacement: that begins in them, "
            f"at {_at(begins)}",
            "rotate it before (citadel root rotate), or leave more room in rotation.schedule.quiet_hours",
        )
    if distributed >= ends:
        yield Finding(
            Severity.ERROR,
            f"{name} ends at {_at(ends)}, and its replacement is distributed not before {_at(distributed)}, if a "
            "client is silent: it expires before its replacement is distributed",
            "rotate it now (citadel root rotate), or lower rotation.schedule.root_at or rotation.grace",
        )
    elif distributed + facts.longest_leaf >= ends:
        yield Finding(
            Severity.WARNING,
            f"{name} ends at {_at(ends)}: leaves of {facts.longest_leaf} are cut short before its replacement signs",
            "lower rotation.schedule.root_at, or make roots for longer (root.ttl)",
        )


def _signer(root: Authority, facts: Facts, signer_ends: Authority | None) -> Iterator[Finding]:
    signer = facts.world.active(AuthorityKind.ISSUING) or root
    line = [signer.certificate, *map(read_certificate, signer.chain)]
    first = min(line, key=lambda c: c.not_after)
    now = facts.world.now
    if first.not_after <= now:
        yield Finding(Severity.ERROR, f"{first.subject} has expired at {_at(first.not_after)}", "see: citadel status")
    elif first.not_after - now < facts.longest_leaf:
        yield Finding(
            Severity.WARNING,
            f"a leaf of {facts.longest_leaf} would outlive its issuer {signer.skid}, which ends at "
            f"{_at(first.not_after)}: leaves are cut short",
            "see why it is not renewed: citadel status",
        )
    if signer_ends is None:
        if facts.schedule.issuing_ttl < 2 * facts.longest_leaf:
            yield Finding(
                Severity.ERROR,
                f"a leaf of {facts.longest_leaf} outlives half of its issuer's life ({facts.schedule.issuing_ttl}): "
                "leaves are cut short before each renewal",
                "raise ca.ttl, or lower svid.max_ttl",
            )
        return
    if first.not_after <= facts.until:
        yield Finding(
            Severity.ERROR,
            f"{first.subject} ends at {_at(first.not_after)}, and Citadel cannot renew it: {_whose(root, signer)}",
            _ways(root, signer),
        )


def _whose(root: Authority, signer: Authority) -> str:
    return "it was plugged in" if signer.key_source is KeySource.FILES else f"the key of root {root.skid} is not here"


def _ways(root: Authority, signer: Authority) -> str:
    if signer.key_source is KeySource.FILES:
        return "plug in another one before (docs/cacerts.md)"
    return "have another one signed: citadel root prepare --csr-out FILE" if root.key_source is KeySource.NONE else ""


def _waiting(facts: Facts) -> Iterator[Finding]:
    planned = facts.planned
    if planned is None:
        return
    if facts.kind is RootKind.CACERTS and planned.at <= facts.until and planned.waits is not Waits.ANOTHER_ROOT:
        yield Finding(
            Severity.WARNING,
            f"root {planned.root} is to be replaced at {_at(planned.at)}, and the next one is yours to bring",
            "plug in another one before (docs/cacerts.md)",
        )
    if planned.waits in (Waits.APPROVAL, Waits.ANOTHER_ROOT, Waits.CHECK):
        since = f"planned for {_at(planned.at)}"
        yield Finding(Severity.WARNING, f"the rotation away from root {planned.root}, {since}, waits: {planned.why}")


def _at(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
