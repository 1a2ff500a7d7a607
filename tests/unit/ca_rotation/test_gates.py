"""Gates: who must have acknowledged before a root signs, and what must have ended before one leaves the bundle."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from citadel.ca.model import Skid
from citadel.ca.rotation import Standing, activation_gate, commands, removal_gate
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.plan import Plan
from citadel.errors import FailedPrecondition
from tests.support.rotating import LEAF, NODE, POLICY, Mesh

OPERATOR = Wish("uid:0")
R0 = Skid("r0")


def rotating(*names: str, auto: bool = True) -> Mesh:
    """A mesh with these clients, in which a new root has just gone into the bundle."""
    mesh = Mesh()
    for name in names:
        mesh.join(name)
    root, issuing = mesh.new_root()
    mesh.carry_out(commands.prepare(mesh.world(), root, issuing, OPERATOR, plan_id="p", longest_leaf=LEAF, auto=auto))
    return mesh


def plan(mesh: Mesh) -> Plan:
    return mesh.plans["p"]


def deliver(mesh: Mesh, *names: str) -> None:
    for name in names or tuple(mesh.clients):
        mesh.deliver(mesh.clients[name])


def standing(mesh: Mesh) -> dict[str, Standing]:
    return {b.client: b.standing for b in activation_gate(plan(mesh), mesh.world(), POLICY).behind}


def activated(*names: str) -> Mesh:
    mesh = rotating(*names)
    deliver(mesh)
    mesh.advance(POLICY.reconnect_window)
    mesh.tick()
    assert plan(mesh).phase.value == "retiring"
    return mesh


def test_it_opens_when_all_have_acknowledged_and_had_time_to_connect() -> None:
    mesh = rotating("cart", "shop")
    deliver(mesh)
    gate = activation_gate(plan(mesh), mesh.world(), POLICY)
    assert not gate.open
    assert gate.opens_at == mesh.now + POLICY.reconnect_window
    mesh.advance(POLICY.reconnect_window)
    gate = activation_gate(plan(mesh), mesh.world(), POLICY)
    assert (gate.open, gate.expected, gate.connected, gate.acknowledged) == (True, 2, 2, 2)


def test_whoever_is_behind_is_named_with_what_is_the_matter() -> None:
    mesh = rotating("quick", "slow", "stubborn", "gone")
    mesh.clients["slow"].frozen = True
    mesh.clients["stubborn"].rejects = True
    deliver(mesh, "quick", "slow", "stubborn")
    mesh.disconnect(mesh.clients["gone"])
    assert standing(mesh) == {
        "slow": Standing.SILENT,
        "stubborn": Standing.NACKED,
        "gone": Standing.GONE,
    }


def test_a_client_that_never_asked_us_for_a_bundle_has_its_trust_from_elsewhere() -> None:
    mesh = rotating("cart")
    deliver(mesh)
    del mesh.clients["cart"].rows["ROOTCA"]
    assert standing(mesh) == {"cart": Standing.ELSEWHERE}


def test_neither_a_disconnect_nor_a_restart_of_ours_takes_anybody_out() -> None:
    mesh = rotating("cart")
    mesh.disconnect(mesh.clients["cart"])
    mesh.running_since = mesh.now
    mesh.advance(POLICY.assumed_after)
    assert not activation_gate(plan(mesh), mesh.world(), POLICY).open


def test_a_client_is_expected_no_more_when_its_last_leaf_has_expired() -> None:
    mesh = rotating("cart")
    mesh.disconnect(mesh.clients["cart"])
    mesh.advance(LEAF + POLICY.clock_skew + POLICY.grace)
    assert activation_gate(plan(mesh), mesh.world(), POLICY).expected == 0


def test_nobody_connected_opens_no_gate_before_the_time_for_those_who_cannot_acknowledge() -> None:
    mesh = rotating()
    mesh.advance(POLICY.reconnect_window)
    gate = activation_gate(plan(mesh), mesh.world(), POLICY)
    assert not gate.open
    assert "no client is connected" in gate.why[0]
    mesh.advance(POLICY.assumed_after)
    assert activation_gate(plan(mesh), mesh.world(), POLICY).open


def test_of_clients_that_have_ended_it_is_told_that_they_were_here() -> None:
    mesh = rotating("cart", "shop", "gone")
    mesh.end(mesh.clients["cart"])
    mesh.end(mesh.clients["shop"])
    mesh.disconnect(mesh.clients["gone"])
    why = activation_gate(plan(mesh), mesh.world(), POLICY).why
    assert why[-1].startswith("no client is connected (2 that were here have ended: citadel status --clients), so")


def test_after_a_start_no_gate_opens_before_clients_had_time_to_connect() -> None:
    mesh = rotating("cart")
    deliver(mesh)
    mesh.advance(timedelta(minutes=1))
    mesh.running_since = mesh.now
    assert not activation_gate(plan(mesh), mesh.world(), POLICY).open


def test_the_grace_of_the_silent_counts_from_when_they_fell_silent_and_its_end_is_written_down() -> None:
    mesh = rotating("cart", "shop")
    mesh.clients["shop"].frozen = True
    deliver(mesh)
    mesh.advance(POLICY.grace - timedelta(seconds=1))
    deliver(mesh)
    mesh.tick()
    assert plan(mesh).phase.value == "distributing"
    mesh.advance(timedelta(seconds=1))
    mesh.tick()
    assert [e.client for e in plan(mesh).excused] == ["shop"]
    assert "shop" in mesh.steps[-2].audit.detail["what"]  # type: ignore[operator]  # a sentence
    assert plan(mesh).phase.value == "retiring"


def test_whoever_rejects_the_bundle_is_never_excused() -> None:
    mesh = rotating("cart")
    mesh.clients["cart"].rejects = True
    for _ in range(20):
        deliver(mesh)
        mesh.advance(POLICY.grace)
        mesh.tick()
    assert plan(mesh).phase.value == "distributing"


def test_a_root_is_needed_as_long_as_a_leaf_in_use_chains_to_it() -> None:
    mesh = activated("cart", "shop")
    deliver(mesh, "cart")
    gate = removal_gate(plan(mesh), mesh.world(), POLICY)
    assert [g.entry_id for g in gate.leaves] == ["shop"]
    with pytest.raises(FailedPrecondition, match="1 certificates in use chain to it"):
        commands.remove(mesh.world(), POLICY, R0, OPERATOR)
    deliver(mesh, "shop")
    assert not removal_gate(plan(mesh), mesh.world(), POLICY).leaves


def test_connections_made_with_old_leaves_are_given_their_time() -> None:
    mesh = activated("cart")
    deliver(mesh)
    mesh.tick()
    assert not removal_gate(plan(mesh), mesh.world(), POLICY).open
    mesh.advance(POLICY.session_life)
    mesh.tick()
    assert plan(mesh).phase.value == "done"


def test_a_client_that_never_said_which_leaf_it_uses_may_use_any_of_its_node() -> None:
    mesh = activated("cart", "shop")
    deliver(mesh)
    row = mesh.clients["shop"].rows["default"]
    mesh.clients["shop"].rows["default"] = replace(row, last="sent", authority=None, not_after=None, spiffe_id="")
    assert {g.entry_id for g in removal_gate(plan(mesh), mesh.world(), POLICY).leaves} == {"cart", "shop"}


def test_a_root_that_is_not_valid_yet_by_a_clock_that_went_back_does_not_sign() -> None:
    mesh = rotating("cart")
    deliver(mesh)
    mesh.set_clock(timedelta(days=-1))
    mesh.tick()
    deliver(mesh)
    mesh.advance(POLICY.reconnect_window)
    mesh.tick()
    gate = activation_gate(plan(mesh), mesh.world(), POLICY)
    assert plan(mesh).phase.value == "distributing"
    assert [w for w in gate.why if "is this machine's clock right?" in w]
    with pytest.raises(FailedPrecondition, match="can sign now"):
        commands.activate(mesh.world(), POLICY, Wish("uid:0", force=True))
    mesh.set_clock(timedelta(0))
    mesh.tick()
    assert plan(mesh).phase.value == "retiring"


def test_a_clock_that_went_back_begins_the_waiting_anew() -> None:
    mesh = rotating("cart")
    deliver(mesh)
    mesh.set_clock(timedelta(seconds=-50))
    mesh.tick()
    assert plan(mesh).phase_at == mesh.now
    deliver(mesh)
    mesh.advance(POLICY.reconnect_window)
    mesh.tick()
    assert plan(mesh).phase.value == "retiring"


def test_clients_of_two_nodes_with_one_name_are_two() -> None:
    mesh = rotating("cart")
    deliver(mesh)
    twin = {name: replace(row, node=f"{NODE}2", sequence=1) for name, row in mesh.clients["cart"].rows.items()}
    mesh.clients["cart"].rows |= {f"twin {name}": row for name, row in twin.items()}
    gate = activation_gate(plan(mesh), mesh.world(), POLICY)
    assert [b.node for b in gate.behind] == [f"{NODE}2"]
