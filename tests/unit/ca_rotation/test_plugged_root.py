"""A plugged-in root that signs leaves itself, without an issuing CA, in a rotation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from citadel.ca.model import AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.rotation import LeafGroup, World, removal_gate
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.transitions import activate
from tests.support.rotating import NODE, POLICY, START, Mesh, authority

OLD, NEW = Skid("old"), Skid("new")


def world(new: AuthorityState, leaves: tuple[LeafGroup, ...] = ()) -> World:
    old = AuthorityState.RETIRING if new is AuthorityState.ACTIVE else AuthorityState.ACTIVE
    roots = [authority(s.hex, AuthorityKind.ROOT, state, s.hex, START) for s, state in ((OLD, old), (NEW, new))]
    plugged = tuple(replace(root, key_source=KeySource.FILES) for root in roots)
    bundle = replace(Mesh().bundle, roots=tuple(sorted(root.certificate.der for root in roots)))
    return World(START + timedelta(days=1), START, bundle, plugged, leaves=leaves)


PLAN = Plan("p", 1, NEW, OLD, Phase.DISTRIBUTING, 2, START, START, "uid:0")


def test_it_is_activated_alone_and_the_old_one_stops_signing() -> None:
    step = activate(PLAN, world(AuthorityState.DISTRIBUTING), actor="uid:0")
    assert [(m.skid, m.to) for m in step.moves] == [(NEW, AuthorityState.ACTIVE), (OLD, AuthorityState.RETIRING)]


def test_it_stays_in_the_bundle_while_a_leaf_that_it_signed_itself_is_in_use() -> None:
    end = START + timedelta(days=2)
    leaves = (LeafGroup(OLD, NODE, "e", "spiffe://example.org/web", 3, end, replaced=False, by_node=True),)
    plan = replace(PLAN, phase=Phase.RETIRING)
    gate = removal_gate(plan, world(AuthorityState.ACTIVE, leaves), POLICY)
    assert not gate.open
    assert gate.leaves == leaves
