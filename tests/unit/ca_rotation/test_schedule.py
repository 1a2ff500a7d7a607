"""The schedule: when a planned rotation is due, what it waits for, and that it takes no step in quiet hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from citadel.ca.model import AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.rotation import RootKind, commands
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.schedule import Approval, Planned, Schedule, Waits, planned
from citadel.quiet_hours import QuietHours, QuietRange
from tests.support.rotating import LEAF, POLICY, START, Mesh, authority

R0 = Skid("r0")
LIFE = timedelta(days=3650)  # of r0, from a minute before START
DUE = START - timedelta(minutes=1) + (LIFE + timedelta(minutes=1)) * 0.8
FREELY = Schedule(approval=False)
ALL_DAY = QuietHours((QuietRange.parse("00:00-23:00"),), UTC)


def at(moment: datetime) -> Mesh:
    mesh = Mesh()
    mesh.now = mesh.true_now = mesh.running_since = moment
    root, issuing = mesh.authorities
    renewed = replace(issuing.certificate, not_after=moment + timedelta(days=30))
    mesh.authorities = (root, replace(issuing, certificates=(renewed,)))
    return mesh


def look(
    mesh: Mesh, schedule: Schedule = FREELY, *approvals: Approval, kind: RootKind = RootKind.DISK
) -> Planned | None:
    return planned(mesh.world(), schedule, approvals, kind)


def waits(found: Planned | None) -> Waits:
    assert found is not None
    return found.waits


def begun(mesh: Mesh, *, planned: bool = True) -> None:
    root, issuing = mesh.new_root()
    step = commands.prepare(
        mesh.world(), root, issuing, Wish("system:schedule"), plan_id="p", longest_leaf=LEAF, planned=planned
    )
    mesh.carry_out(step)


def approved(moment: datetime, root: Skid = R0) -> Approval:
    return Approval(root, "uid:0", moment)


def test_a_root_is_due_at_its_part_of_its_life() -> None:
    found = look(at(DUE - timedelta(seconds=1)))
    assert found is not None
    assert (found.root, found.waits) == (R0, Waits.TIME)
    assert abs(found.at - DUE) < timedelta(seconds=1)
    assert waits(look(at(DUE + timedelta(seconds=1)))) is Waits.NOTHING


def test_a_root_that_ends_sooner_is_due_before_it_cuts_an_issuing_ca_short() -> None:
    root = Mesh().world().active(AuthorityKind.ROOT)
    assert root is not None
    ends = root.certificate.not_after
    assert replace(FREELY, root_at=0.999).due_at(root) == ends - 2 * FREELY.issuing_ttl
    short = replace(FREELY, issuing_ttl=LIFE)  # never before half of its life
    assert short.due_at(root) == root.certificate.not_before + (ends - root.certificate.not_before) / 2


def test_without_a_part_nothing_is_planned() -> None:
    assert look(at(DUE + timedelta(days=1)), replace(FREELY, root_at=0)) is None


def test_it_waits_for_approval_which_may_be_given_before() -> None:
    schedule = Schedule(approval=True)
    late = at(DUE + timedelta(days=1))
    assert waits(look(late, schedule)) is Waits.APPROVAL
    assert waits(look(late, schedule, approved(START))) is Waits.NOTHING
    assert waits(look(late, schedule, approved(START, Skid("another")))) is Waits.APPROVAL


def test_it_does_not_begin_in_quiet_hours() -> None:
    found = look(at(DUE.replace(hour=12)), replace(FREELY, quiet=ALL_DAY))
    assert waits(found) in (Waits.TIME, Waits.QUIET_HOURS)
    found = look(at((DUE + timedelta(days=1)).replace(hour=12, minute=0)), replace(FREELY, quiet=ALL_DAY))
    assert waits(found) is Waits.QUIET_HOURS
    assert found is not None
    assert found.until is not None
    assert found.until.hour == 23


def test_a_root_that_is_not_ours_to_make_has_to_lie_ready() -> None:
    mesh = at(DUE + timedelta(days=1))
    assert waits(look(mesh, kind=RootKind.CACERTS)) is Waits.ANOTHER_ROOT
    ready = authority("p1", AuthorityKind.ROOT, AuthorityState.PREPARED, "p1", mesh.now)
    mesh.authorities = (*mesh.authorities, replace(ready, key_source=KeySource.FILES))
    assert waits(look(mesh, kind=RootKind.CACERTS)) is Waits.NOTHING


def test_nothing_is_planned_for_a_root_that_is_being_replaced() -> None:
    mesh = at(DUE + timedelta(days=1))
    begun(mesh)
    assert look(mesh) is None


@pytest.mark.parametrize("signs", [False, True])
def test_one_that_was_taken_back_begins_again_only_by_a_new_word(signs: bool) -> None:
    mesh = at(DUE + timedelta(days=1))
    begun(mesh)
    if signs:
        mesh.advance(POLICY.assumed_after)
        mesh.tick()
        assert mesh.plans["p"].phase.value == "retiring"
    mesh.carry_out(commands.rollback(mesh.world(), Wish("uid:0")))
    if signs:
        mesh.advance(POLICY.session_life)
        mesh.tick()
        mesh.advance(POLICY.session_life)
        mesh.tick()
    before = approved(mesh.plans["p"].started_at - timedelta(hours=1))
    found = look(mesh, FREELY, before)
    assert waits(found) is Waits.APPROVAL
    assert found is not None
    assert "taken back" in found.why
    assert waits(look(mesh, FREELY, before, approved(mesh.now))) is Waits.NOTHING


def test_one_that_an_operator_began_and_took_back_does_not_hold_up_the_planned_one() -> None:
    mesh = at(DUE + timedelta(days=1))
    begun(mesh, planned=False)
    mesh.carry_out(commands.abandon(mesh.world(), Wish("uid:0")))
    assert waits(look(mesh)) is Waits.NOTHING


FOR_EVER = QuietHours((QuietRange.parse("00:00-24:00"),), UTC)
ENDS = START + LIFE


@pytest.mark.parametrize(
    ("left", "held"),
    [
        (timedelta(days=9), Waits.QUIET_HOURS),
        (timedelta(hours=3), Waits.QUIET_HOURS),
        (timedelta(hours=1), Waits.NOTHING),
    ],
)
def test_a_root_that_would_end_in_the_quiet_hours_does_not_wait_for_their_end(left: timedelta, held: Waits) -> None:
    found = look(at(ENDS - left), replace(FREELY, quiet=FOR_EVER))
    assert waits(found) is held
    assert found is not None
    assert found.until is None or found.until < ENDS - timedelta(hours=1), "it says until when, and not for ever"


@pytest.mark.parametrize(("left", "phase"), [(timedelta(hours=3), "distributing"), (timedelta(minutes=30), "retiring")])
def test_the_next_root_signs_in_quiet_hours_before_the_one_in_force_has_ended(left: timedelta, phase: str) -> None:
    mesh = at(ENDS - left - POLICY.assumed_after)
    begun(mesh)
    mesh.advance(POLICY.assumed_after)
    mesh.tick(replace(POLICY, quiet=FOR_EVER))
    assert mesh.plans["p"].phase.value == phase


def test_a_plugged_in_ca_that_ends_does_not_wait_either() -> None:
    mesh = at(START + timedelta(days=30))
    root, issuing = mesh.authorities
    ends = replace(issuing.certificate, not_after=mesh.now + timedelta(minutes=30))
    mesh.authorities = (root, replace(issuing, certificates=(ends,), key_source=KeySource.FILES))
    begun(mesh)
    mesh.advance(POLICY.assumed_after)
    mesh.tick(replace(POLICY, quiet=FOR_EVER))
    assert mesh.plans["p"].phase.value == "retiring"


@pytest.mark.parametrize(("planned", "phase"), [(True, "distributing"), (False, "retiring")])
def test_in_quiet_hours_a_planned_rotation_takes_no_step_and_an_operators_does(planned: bool, phase: str) -> None:
    mesh = at(START.replace(hour=12))
    begun(mesh, planned=planned)
    mesh.advance(POLICY.assumed_after)
    mesh.tick(replace(POLICY, quiet=ALL_DAY))
    assert mesh.plans["p"].phase.value == phase
    mesh.advance(timedelta(hours=11))
    mesh.tick(replace(POLICY, quiet=ALL_DAY))
    assert mesh.plans["p"].phase.value in ("retiring", "done")
