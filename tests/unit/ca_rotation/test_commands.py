"""Commands: in order they do what they say; out of order they are refused, with why and what would mend it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from citadel.ca.model import AuthorityKind, AuthorityState, Skid
from citadel.ca.rotation import commands
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.machine import tick
from citadel.errors import FailedPrecondition, NotFound
from tests.support.rotating import LEAF, POLICY, Mesh, authority

OPERATOR = Wish("uid:0", reason="drill")
FORCE = Wish("uid:0", force=True)
A = AuthorityState
R0, R1 = Skid("r0"), Skid("r1")


@pytest.fixture
def mesh() -> Mesh:
    made = Mesh()
    made.join("cart")
    made.join("shop")
    return made


def prepare(mesh: Mesh, *, emergency: bool = False, replace: bool = False, auto: bool = False) -> None:
    root, issuing = mesh.new_root()
    step = commands.prepare(
        mesh.world(),
        root,
        issuing,
        OPERATOR,
        plan_id=f"p{mesh.made}",
        longest_leaf=LEAF,
        auto=auto,
        emergency=emergency,
        replace=replace,
    )
    mesh.carry_out(step)


def settle(mesh: Mesh, seconds: int = 30) -> None:
    """Everything arrives at everybody, and time passes."""
    for client in mesh.clients.values():
        mesh.deliver(client)
    mesh.advance(timedelta(seconds=seconds))
    mesh.tick()


def states(mesh: Mesh) -> dict[str, AuthorityState]:
    return {a.skid.hex: a.state for a in mesh.authorities if a.kind is AuthorityKind.ROOT}


def activate(mesh: Mesh) -> None:
    mesh.carry_out(commands.activate(mesh.world(), POLICY, OPERATOR))


def test_step_by_step_from_prepare_to_remove(mesh: Mesh) -> None:
    prepare(mesh)
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.DISTRIBUTING}
    settle(mesh)
    activate(mesh)
    assert states(mesh) == {"r0": A.RETIRING, "r1": A.ACTIVE}
    settle(mesh)
    settle(mesh)
    mesh.carry_out(commands.remove(mesh.world(), POLICY, R0, OPERATOR))
    assert states(mesh) == {"r0": A.REMOVED, "r1": A.ACTIVE}
    assert mesh.bundle.roots == (b"r1",)
    mesh.check()


def test_each_step_says_who_did_it_and_why(mesh: Mesh) -> None:
    prepare(mesh)
    event = mesh.steps[-1].audit
    assert (event.actor, event.action, event.subject, event.reason) == ("uid:0", "root.prepare", "r1", "drill")


def test_an_operator_in_a_hurry_is_told_who_is_behind(mesh: Mesh) -> None:
    prepare(mesh)
    with pytest.raises(FailedPrecondition, match=r"not acknowledged by cart .*not acknowledged by shop"):
        activate(mesh)
    step = commands.taint(mesh.world(), R0, OPERATOR)
    assert step is not None
    mesh.carry_out(step)
    with pytest.raises(FailedPrecondition, match="only a tainted root can be revoked"):
        commands.revoke(mesh.world(), POLICY, R0, OPERATOR)
    mesh.check()


def test_two_operators_the_second_sees_the_firsts_plan(mesh: Mesh) -> None:
    prepare(mesh)
    with pytest.raises(FailedPrecondition, match=r"root r1 is on its way already \(plan p1 of uid:0\)"):
        prepare(mesh)
    prepare(mesh, replace=True)
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.ABANDONED, "r2": A.PREPARED, "r3": A.DISTRIBUTING}


def test_abandon_takes_the_new_root_out_again(mesh: Mesh) -> None:
    prepare(mesh)
    mesh.carry_out(commands.abandon(mesh.world(), OPERATOR))
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.ABANDONED}
    assert mesh.bundle.roots == (b"r0",)
    with pytest.raises(FailedPrecondition, match="nothing to abandon"):
        commands.abandon(mesh.world(), OPERATOR)


def test_a_rollback_that_is_repeated_undoes_nothing_and_names_the_way_on(mesh: Mesh) -> None:
    prepare(mesh)
    settle(mesh)
    activate(mesh)
    settle(mesh)
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR))
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.RETIRING}
    mesh.check()
    with pytest.raises(FailedPrecondition, match="plan p1 is rolled back already: root r0 signs again") as refused:
        commands.rollback(mesh.world(), OPERATOR)
    assert refused.value.mend.endswith("name it: citadel root rollback r1")
    with pytest.raises(FailedPrecondition, match="root r0 signs already"):
        commands.rollback(mesh.world(), OPERATOR, to=R0)
    with pytest.raises(NotFound, match="there is no root r9"):
        commands.rollback(mesh.world(), OPERATOR, to=Skid("r9"))
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR, to=R1))
    assert states(mesh) == {"r0": A.RETIRING, "r1": A.ACTIVE}
    mesh.check()
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR))
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.RETIRING}
    mesh.check()


def test_of_several_rotations_each_step_says_which_one_it_took_and_what_goes_on_beside_it(mesh: Mesh) -> None:
    prepare(mesh)
    assert "plan" not in mesh.steps[-1].sentence
    settle(mesh)
    activate(mesh)
    prepare(mesh)
    assert mesh.steps[-1].sentence == (
        "plan p2: root r2 is in the trust bundle; clients acknowledge it; "
        "another rotation is under way still (plan p1, root r0 -> r1, retiring): citadel root status"
    )
    with pytest.raises(FailedPrecondition, match="root r2 is on its way") as first:
        commands.rollback(mesh.world(), OPERATOR, to=R0)
    assert first.value.mend == "first: citadel root abandon"
    assert commands.rollback(mesh.world(), OPERATOR).sentence.startswith("plan p2: root r2 is abandoned")
    assert (
        commands.rollback(mesh.world(), OPERATOR, to=R1).sentence == commands.abandon(mesh.world(), OPERATOR).sentence
    )
    settle(mesh)
    activate(mesh)
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR))
    assert mesh.steps[-1].sentence.startswith("plan p2: root r1 signs again; certificates of r2 are being replaced; ")
    assert "plan p1, root r0 -> r1, retiring" in mesh.steps[-1].sentence
    with pytest.raises(FailedPrecondition, match="plan p2 is rolled back already") as refused:
        commands.rollback(mesh.world(), OPERATOR)
    assert refused.value.mend.endswith("citadel root rollback r2 or citadel root rollback r0")
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR, to=R0))
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.RETIRING, "r2": A.RETIRING}
    with pytest.raises(FailedPrecondition, match="no rotation under way goes back to root r2") as wrong:
        commands.rollback(mesh.world(), OPERATOR, to=Skid("r2"))
    assert wrong.value.mend == "one of these can sign again: r1"
    mesh.check()


def test_an_emergency_is_carried_on_before_what_may_have_to_ask_a_hook(mesh: Mesh) -> None:
    prepare(mesh, auto=True)
    settle(mesh)
    prepare(mesh, auto=True, emergency=True)
    settle(mesh, 0)
    mesh.advance(timedelta(minutes=1))
    step = tick(mesh.world(), POLICY)
    assert step is not None
    assert [plan.id for plan in step.plans] == ["p2"]


def test_who_comes_too_late_to_abandon_is_told_how_to_go_back(mesh: Mesh) -> None:
    with pytest.raises(FailedPrecondition, match="nothing to abandon") as never:
        commands.abandon(mesh.world(), OPERATOR)
    assert never.value.mend == "see: citadel root status"
    prepare(mesh)
    settle(mesh)
    activate(mesh)
    with pytest.raises(FailedPrecondition, match="nothing to abandon: root r1 signs already") as late:
        commands.abandon(mesh.world(), OPERATOR)
    assert late.value.mend == "go back from it: citadel root rollback"


def test_where_nothing_leads_back_although_one_is_under_way_that_is_said(mesh: Mesh) -> None:
    """r0 -> r1, taken back, and r0 -> r2, done: r1 is on its way out still."""
    prepare(mesh)
    settle(mesh)
    activate(mesh)
    mesh.carry_out(commands.rollback(mesh.world(), OPERATOR))
    prepare(mesh)
    settle(mesh)
    activate(mesh)
    mesh.carry_out(commands.remove(mesh.world(), POLICY, R0, FORCE))
    assert states(mesh) == {"r0": A.REMOVED, "r1": A.RETIRING, "r2": A.ACTIVE}
    for to in (None, R1):
        with pytest.raises(FailedPrecondition, match=r"nothing leads back from root r2, which signs: .* and from r1"):
            commands.rollback(mesh.world(), OPERATOR, to=to)


def test_after_removal_there_is_no_way_back(mesh: Mesh) -> None:
    prepare(mesh, auto=True)
    for _ in range(5):
        settle(mesh)
    assert states(mesh) == {"r0": A.REMOVED, "r1": A.ACTIVE}
    with pytest.raises(FailedPrecondition, match="cannot come back") as refused:
        commands.rollback(mesh.world(), OPERATOR)
    assert refused.value.mend == "rotate to a new root: citadel root rotate"


def test_a_standby_that_is_tainted_is_out_at_once(mesh: Mesh) -> None:
    prepare(mesh)
    step = commands.taint(mesh.world(), R1, OPERATOR)
    assert step is not None
    mesh.carry_out(step)
    assert states(mesh) == {"r0": A.ACTIVE, "r1": A.REVOKED}


def test_the_active_root_that_is_tainted_needs_another_and_is_then_revoked_by_itself(mesh: Mesh) -> None:
    assert commands.taint(mesh.world(), R0, OPERATOR) is None
    prepare(mesh, emergency=True, auto=True)
    settle(mesh)
    assert states(mesh) == {"r0": A.TAINTED, "r1": A.ACTIVE}
    assert mesh.bundle.tainted
    settle(mesh)
    assert states(mesh) == {"r0": A.REVOKED, "r1": A.ACTIVE}
    mesh.check()


def test_a_tainted_root_never_signs_again(mesh: Mesh) -> None:
    prepare(mesh, emergency=True)
    settle(mesh)
    activate(mesh)
    with pytest.raises(FailedPrecondition, match="its key is not to be used again"):
        commands.rollback(mesh.world(), OPERATOR)


def test_force_leaves_behind_and_writes_down_whom(mesh: Mesh) -> None:
    prepare(mesh)
    mesh.carry_out(commands.activate(mesh.world(), POLICY, FORCE))
    assert [text.split()[0] for text in mesh.plans["p1"].left_behind] == ["cart", "shop"]
    mesh.carry_out(commands.remove(mesh.world(), POLICY, R0, FORCE))
    assert states(mesh) == {"r0": A.REMOVED, "r1": A.ACTIVE}


def test_three_rotations_back_to_back(mesh: Mesh) -> None:
    for _ in range(3):
        prepare(mesh, auto=True)
        settle(mesh)
    for _ in range(6):
        settle(mesh)
        mesh.check()
    assert states(mesh) == {"r0": A.REMOVED, "r1": A.REMOVED, "r2": A.REMOVED, "r3": A.ACTIVE}


@pytest.mark.parametrize("skid", ["r1", "r7"])
def test_what_is_not_known_is_named(mesh: Mesh, skid: str) -> None:
    for command in (commands.remove, commands.revoke):
        with pytest.raises(NotFound, match=f"there is no root {skid}"):
            command(mesh.world(), POLICY, Skid(skid), OPERATOR)


def test_a_key_that_was_ever_in_use_cannot_be_prepared_again(mesh: Mesh) -> None:
    prepare(mesh)
    mesh.carry_out(commands.abandon(mesh.world(), OPERATOR))
    _, issuing = mesh.new_root()
    with pytest.raises(FailedPrecondition, match=r"the key r1 .* is in use already, or was \(it is abandoned\)"):
        commands.prepare(mesh.world(), R1, issuing, OPERATOR, plan_id="p", longest_leaf=LEAF)


@pytest.mark.parametrize(
    ("off", "why"),
    [(timedelta(hours=2), "is not valid before"), (-timedelta(days=3650) + LEAF, "too soon for leaves")],
)
def test_a_root_whose_time_does_not_fit_is_refused(mesh: Mesh, off: timedelta, why: str) -> None:
    odd = authority("r9", AuthorityKind.ROOT, A.PREPARED, "r9", mesh.now + off)
    mesh.authorities = (*mesh.authorities, odd)
    _, issuing = mesh.new_root()
    with pytest.raises(FailedPrecondition, match=why):
        commands.prepare(mesh.world(), odd.skid, issuing, OPERATOR, plan_id="p", longest_leaf=LEAF)


def test_an_emergency_goes_on_after_its_short_gate_only_if_it_was_told_to(mesh: Mesh) -> None:
    root, issuing = mesh.new_root()
    step = commands.prepare(
        mesh.world(), root, issuing, OPERATOR, plan_id="p", longest_leaf=LEAF, emergency=True, unasked=True
    )
    mesh.carry_out(step)
    mesh.advance(POLICY.emergency_gate - timedelta(seconds=1))
    mesh.tick()
    assert states(mesh)["r0"] is A.ACTIVE
    mesh.advance(timedelta(seconds=1))
    mesh.tick()
    assert states(mesh)["r0"] is A.TAINTED
    assert len(mesh.plans["p"].left_behind) == 2
