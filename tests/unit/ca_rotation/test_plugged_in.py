"""A plugged-in root lies ready and is taken up, by command or by itself; one that retires without a plan gets one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.rotation import Phase, commands, plugged
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.machine import tick
from tests.support.rotating import LEAF, POLICY, Mesh, authority

OPERATOR = Wish("uid:0")
A = AuthorityState


def plug(mesh: Mesh, name: str, *, source: KeySource = KeySource.NONE, ca: bool = True) -> Skid:
    root = replace(authority(name, AuthorityKind.ROOT, A.PREPARED, name, mesh.now), key_source=source, note="waits")
    added: tuple[Authority, ...] = (root,)
    if ca:
        added += (replace(authority(f"{name}-ca", AuthorityKind.ISSUING, A.PREPARED, name, mesh.now), note="waits"),)
    mesh.authorities = (*mesh.authorities, *added)
    return root.skid


@pytest.mark.parametrize(
    ("source", "ca", "is_ready"),
    [
        (KeySource.NONE, True, True),
        (KeySource.FILES, False, True),  # it signs leaves itself
        (KeySource.NONE, False, False),
        (KeySource.SEALED, True, False),  # ours
    ],
)
def test_a_root_under_which_somebody_could_sign_lies_ready(source: KeySource, ca: bool, is_ready: bool) -> None:
    mesh = Mesh()
    plug(mesh, "p", source=source, ca=ca)
    assert bool(plugged.ready(mesh.world())) is is_ready


def test_it_is_rotated_to_with_the_ca_that_it_brought() -> None:
    mesh = Mesh()
    mesh.join("cart")
    skid = plug(mesh, "p")
    step = commands.prepare(mesh.world(), skid, None, OPERATOR, plan_id="p", longest_leaf=LEAF)
    mesh.carry_out(step)
    for _ in range(40):
        mesh.deliver(mesh.clients["cart"])
        mesh.tick()
        mesh.check()
        mesh.advance(POLICY.reconnect_window)
    assert mesh.plans["p"].phase is Phase.DONE
    active = mesh.world().active(AuthorityKind.ISSUING)
    assert active is not None
    assert active.skid == Skid("p-ca")


def test_what_was_abandoned_is_not_taken_up_again_without_being_told() -> None:
    mesh = Mesh()
    skid = plug(mesh, "p")
    unasked = plugged.unasked(mesh.world())
    assert unasked is not None
    assert unasked.skid == skid
    mesh.carry_out(commands.prepare(mesh.world(), skid, None, OPERATOR, plan_id="p", longest_leaf=LEAF))
    mesh.carry_out(commands.abandon(mesh.world(), OPERATOR))
    mesh.authorities = tuple(replace(a, state=A.PREPARED) if a.state is A.ABANDONED else a for a in mesh.authorities)
    assert plugged.unasked(mesh.world()) is None
    assert [root.skid for root in plugged.ready(mesh.world())] == [skid]


@pytest.mark.parametrize("by_itself", [False, True])
def test_a_root_that_retires_without_a_plan_gets_one_once(by_itself: bool) -> None:
    mesh = Mesh()
    mesh.join("cart")
    policy = replace(POLICY, plugged_by_itself=by_itself)
    plug(mesh, "p")
    new = {Skid("p"): A.ACTIVE, Skid("p-ca"): A.ACTIVE, Skid("r0"): A.RETIRING, Skid("r0-ca"): A.RETIRING}
    mesh.authorities = tuple(replace(a, state=new[a.skid]) for a in mesh.authorities)
    step = tick(mesh.world(), policy)
    assert step is not None
    mesh.carry_out(step)
    (plan,) = mesh.plans.values()
    assert (plan.incoming, plan.outgoing, plan.phase, plan.auto) == (Skid("p"), Skid("r0"), Phase.RETIRING, by_itself)
    assert tick(mesh.world(), policy) is None or len(mesh.plans) == 1
