"""The calendar: what comes when, and what would break."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from itertools import pairwise

import pytest

from citadel.ca.model import Authority, AuthorityKind, KeySource
from citadel.ca.rotation import RootKind, commands
from citadel.ca.rotation.calendar import Calendar, Event, Lifetimes, calendar
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.findings import Severity
from citadel.ca.rotation.gates import removal_gate
from citadel.ca.rotation.schedule import Schedule, planned
from citadel.quiet_hours import QuietHours, QuietRange
from tests.support.rotating import POLICY, START, Mesh

TWO_YEARS = timedelta(days=730)
LIVES = Lifetimes(timedelta(days=400), timedelta(days=30), timedelta(hours=1), 50)
FREELY = Schedule(approval=False, issuing_ttl=LIVES.issuing)


def mesh(
    *,
    root_life: timedelta = LIVES.root,
    root_is: KeySource = KeySource.SEALED,
    signer_is: KeySource = KeySource.SEALED,
) -> Mesh:
    made = Mesh()
    root, issuing = made.authorities
    made.authorities = (living(root, root_life, root_is), living(issuing, LIVES.issuing, signer_is))
    return made


def living(one: Authority, life: timedelta, source: KeySource) -> Authority:
    return replace(one, certificates=(replace(one.certificate, not_after=START + life),), key_source=source)


def look(
    made: Mesh, schedule: Schedule = FREELY, *, lives: Lifetimes = LIVES, kind: RootKind = RootKind.DISK
) -> Calendar:
    world = made.world()
    next_one = planned(world, schedule, (), kind)
    makes = kind is RootKind.DISK
    return calendar(world, POLICY, schedule, lives, kind, makes, next_one, made.now + TWO_YEARS)


def told(found: Calendar, severity: Severity = Severity.ERROR) -> str:
    return "\n".join(one.sentence for one in found.findings if one.severity is severity)


def test_two_years_of_roots_and_issuing_cas() -> None:
    found = look(mesh())
    assert found.findings == ()
    roots = [(e.event, e.authority) for e in found.entries if e.kind is AuthorityKind.ROOT]
    first = found.entries[0].authority
    assert first == "issuing CA 2"
    assert [event for event, _ in roots] == [Event.PREPARE, Event.ACTIVATE, Event.REMOVE] * 2
    assert [name for _, name in roots if " " in name] == ["root 2", "root 2", "root 3", "root 3", "root 2"]
    prepared = [e.at for e in found.entries if e.event is Event.PREPARE]
    assert abs(prepared[0] - (START + LIVES.root * 0.8)) < timedelta(days=1)
    assert abs(prepared[1] - prepared[0] - LIVES.root * 0.8) < timedelta(days=1)
    renewals = [e.at for e in found.entries if e.event is Event.RENEW]
    gaps = [b - a for a, b in pairwise(renewals)]
    assert max(gaps) <= LIVES.issuing / 2 + timedelta(days=1)
    assert found.entries == tuple(sorted(found.entries, key=lambda e: e.at))


def test_a_root_on_its_way_out_is_removed_when_its_gate_says_so() -> None:
    made = mesh()
    made.join("cart")
    root, issuing = made.new_root()
    wish = Wish("uid:0")
    made.carry_out(commands.prepare(made.world(), root, issuing, wish, plan_id="p", longest_leaf=timedelta(0)))
    made.carry_out(commands.activate(made.world(), POLICY, replace(wish, force=True)))
    made.deliver(made.clients["cart"])
    made.tick()
    gate = removal_gate(made.plans["p"], made.world(), POLICY)
    assert gate.opens_at is not None
    assert gate.opens_at > made.now
    (removed,) = [e for e in look(made).entries if "under way (p)" in e.note]
    assert (removed.event, removed.at) == (Event.REMOVE, gate.opens_at)
    made.advance(gate.opens_at - made.now)
    (removed,) = [e for e in look(made).entries if "under way (p)" in e.note]
    assert removed.at == made.now


def test_no_step_falls_into_quiet_hours() -> None:
    quiet = QuietHours((QuietRange.parse("Mon-Fri 00:00-24:00"), QuietRange.parse("Sun 03:00-01:00")), UTC)
    found = look(mesh(), replace(FREELY, quiet=quiet))
    assert {e.event for e in found.entries} == {Event.PREPARE, Event.ACTIVATE, Event.REMOVE, Event.RENEW}
    assert [e for e in found.entries if quiet.until(e.at) is not None] == []


def test_quiet_hours_that_never_end() -> None:
    found = look(mesh(), replace(FREELY, quiet=QuietHours((QuietRange.parse("00:00-24:00"),), UTC)))
    assert "leave no minute of the week" in told(found)
    assert "that begins in them, at" in told(found, Severity.WARNING)
    [prepare, activate] = [e.at for e in found.entries if e.event in (Event.PREPARE, Event.ACTIVATE)][:2]
    assert prepare < activate < START + LIVES.root, "the root that ends wins"


def test_a_root_that_expires_before_its_replacement_is_distributed() -> None:
    made = mesh()
    made.advance(LIVES.root - POLICY.grace)
    assert "it expires before its replacement is distributed" in told(look(made))
    made.advance(timedelta(hours=1))
    assert "has expired" in told(look(made))


def test_a_root_that_nobody_replaces() -> None:
    found = look(mesh(), replace(FREELY, root_at=0))
    assert "nothing is planned to replace it" in told(found)
    assert [e.event for e in found.entries if e.kind is AuthorityKind.ROOT] == [Event.ENDS]
    assert found.entries[-1].event is Event.ENDS
    assert look(mesh(root_life=timedelta(days=3650)), replace(FREELY, root_at=0)).findings == ()


def test_a_leaf_that_outlives_its_issuer() -> None:
    found = look(mesh(), lives=replace(LIVES, leaf=timedelta(days=20)))
    assert "outlives half of its issuer's life" in told(found)
    made = mesh()
    made.advance(LIVES.issuing - timedelta(minutes=30))
    assert "would outlive its issuer" in told(look(made), Severity.WARNING)


@pytest.mark.parametrize(
    ("root_is", "signer_is", "kind", "why"),
    [
        (KeySource.NONE, KeySource.FILES, RootKind.CACERTS, "it was plugged in"),
        (KeySource.NONE, KeySource.SEALED, RootKind.DISK, "is not here"),
    ],
)
def test_an_issuing_ca_that_nobody_renews(root_is: KeySource, signer_is: KeySource, kind: RootKind, why: str) -> None:
    found = look(mesh(root_is=root_is, signer_is=signer_is), kind=kind)
    assert "Citadel cannot renew it" in told(found)
    assert why in told(found)
    (end,) = [e for e in found.entries if e.kind is AuthorityKind.ISSUING]
    assert end.event is Event.ENDS


def test_what_waits_for_somebody_is_told() -> None:
    made = mesh()
    made.advance(LIVES.root * 0.85)
    assert "citadel root approve" in told(look(made, replace(FREELY, approval=True)), Severity.WARNING)
