"""Rotation as a whole: random commands, time, acknowledgements, losses, restarts, clock jumps; nothing is ever lost."""

from __future__ import annotations

import os
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from citadel.ca.model import AuthorityKind, AuthorityState
from citadel.ca.rotation import commands
from citadel.ca.rotation.commands import Wish
from citadel.errors import FailedPrecondition
from tests.support.rotating import LEAF, POLICY, Mesh, MeshClient

NAMES = ("cart", "shop", "bank")
names = st.sampled_from(NAMES)
seconds = st.integers(0, 900)
OPERATOR = Wish("uid:0")


class Rotations(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.mesh = Mesh()

    @initialize(late=st.sampled_from((*NAMES, "")))
    def clients(self, late: str) -> None:
        for name in NAMES:
            if name != late:
                self.mesh.join(name)

    def _client(self, name: str) -> MeshClient | None:
        """The process that is the service now."""
        live = [c for c in self.mesh.clients.values() if c.name.partition("#")[0] == name and not c.ended]
        return live[-1] if live else None

    # --- the world goes on

    @rule(by=seconds)
    def time_passes(self, by: int) -> None:
        self.mesh.advance(timedelta(seconds=by))

    @rule(off=st.integers(-100_000, 0) | st.integers(-60, int(POLICY.clock_skew.total_seconds()) - 1))
    def the_clock_is_set(self, off: int) -> None:
        self.mesh.set_clock(timedelta(seconds=off))

    @rule()
    def the_server_restarts(self) -> None:
        self.mesh.running_since = self.mesh.now

    @rule(lost=names, leaf=st.booleans())
    def what_there_is_arrives_at_all_but_one(self, lost: str, leaf: bool) -> None:
        for name in NAMES:
            if name != lost and (client := self._client(name)):
                self.mesh.deliver(client, leaf=leaf)

    @rule(name=names, answers=st.booleans(), leaf=st.booleans())
    def something_arrives(self, name: str, answers: bool, leaf: bool) -> None:
        if client := self._client(name):
            self.mesh.deliver(client, answers=answers, leaf=leaf)

    @rule(by=st.integers(5, 40), count=st.integers(1, 8))
    def all_is_well_for_a_while(self, by: int, count: int) -> None:
        for _ in range(count):
            for name in NAMES:
                if client := self._client(name):
                    self.mesh.deliver(client)
            self.mesh.tick()
            self.mesh.advance(timedelta(seconds=by))

    @rule(name=names)
    def a_client_comes(self, name: str) -> None:
        client = self._client(name)
        if client is None:
            self.mesh.join(f"{name}#{len(self.mesh.clients)}")
        else:
            client.connected = True

    @rule(name=names)
    def a_client_goes(self, name: str) -> None:
        if client := self._client(name):
            self.mesh.disconnect(client)

    @rule(name=names, told=st.booleans(), again=st.booleans())
    def a_process_ends(self, name: str, told: bool, again: bool) -> None:
        """What it held is gone. `told`: the node notices; `again`: it is started anew, and is another client then."""
        if client := self._client(name):
            self.mesh.end(client, told=told)
            if again:
                self.mesh.join(f"{name}#{len(self.mesh.clients)}")

    @rule()
    def the_node_looks_who_still_lives(self) -> None:
        for client in self.mesh.clients.values():
            if client.ended:
                self.mesh.end(client)

    @rule(name=names, frozen=st.booleans())
    def a_client_freezes(self, name: str, frozen: bool) -> None:
        if client := self._client(name):
            client.frozen = frozen

    @rule(name=names, rejects=st.booleans())
    def a_client_rejects(self, name: str, rejects: bool) -> None:
        if client := self._client(name):
            client.rejects = rejects

    @rule()
    def the_machine_runs(self) -> None:
        self.mesh.tick()

    # --- operators

    @rule(
        auto=st.sampled_from((True, True, False)),
        emergency=st.sampled_from((False, False, True)),
        replace=st.booleans(),
    )
    def prepare(self, auto: bool, emergency: bool, replace: bool) -> None:
        root, issuing = self.mesh.new_root()
        with suppress(FailedPrecondition):
            self.mesh.carry_out(
                commands.prepare(
                    self.mesh.world(),
                    root,
                    issuing,
                    OPERATOR,
                    plan_id=f"p{self.mesh.made}",
                    longest_leaf=LEAF,
                    auto=auto,
                    emergency=emergency,
                    replace=replace,
                )
            )

    @rule()
    def activate(self) -> None:
        with suppress(FailedPrecondition):
            self.mesh.carry_out(commands.activate(self.mesh.world(), POLICY, OPERATOR))

    @rule(which=st.integers(0, 5))
    def remove(self, which: int) -> None:
        roots = [a for a in self.mesh.authorities if a.kind is AuthorityKind.ROOT]
        with suppress(FailedPrecondition):
            self.mesh.carry_out(commands.remove(self.mesh.world(), POLICY, roots[which % len(roots)].skid, OPERATOR))

    @rule()
    def abandon(self) -> None:
        with suppress(FailedPrecondition):
            self.mesh.carry_out(commands.abandon(self.mesh.world(), OPERATOR))

    @rule()
    def rollback(self) -> None:
        with suppress(FailedPrecondition):
            self.mesh.carry_out(commands.rollback(self.mesh.world(), OPERATOR))

    @rule(which=st.integers(0, 5))
    def rollback_to(self, which: int) -> None:
        roots = [a for a in self.mesh.authorities if a.kind is AuthorityKind.ROOT]
        with suppress(FailedPrecondition):
            self.mesh.carry_out(commands.rollback(self.mesh.world(), OPERATOR, to=roots[which % len(roots)].skid))

    @rule(which=st.integers(0, 5), then_revoke=st.booleans())
    def taint(self, which: int, then_revoke: bool) -> None:
        roots = [a for a in self.mesh.authorities if a.kind is AuthorityKind.ROOT]
        skid = roots[which % len(roots)].skid
        with suppress(FailedPrecondition):
            step = commands.taint(self.mesh.world(), skid, OPERATOR)
            if step is not None:
                self.mesh.carry_out(step)
            if then_revoke:
                self.mesh.carry_out(commands.revoke(self.mesh.world(), POLICY, skid, OPERATOR))

    # --- what holds at every moment

    @invariant()
    def nothing_is_lost(self) -> None:
        self.mesh.check()

    @invariant()
    def what_left_the_bundle_never_returns(self) -> None:
        gone = {AuthorityState.REMOVED, AuthorityState.REVOKED, AuthorityState.ABANDONED}
        for step in self.mesh.steps:
            assert not [m for m in step.moves if m.expected in gone]

    def teardown(self) -> None:
        """Once everybody answers and time passes, every rotation ends; those that wait for commands get them. One that
        is cut off and resumed again and again ends in the same state as one that is left in peace."""
        resumed = deepcopy(self.mesh)
        peaceful = _ended(self.mesh, resumes_every=0)
        assert _ended(resumed, resumes_every=7) == peaceful


def _ended(mesh: Mesh, resumes_every: int) -> object:
    """All that is left when everything ended. `resumes_every`: after so many looks another server takes over, which
    knows what is written down.

    A root that was made before the clock was set back waits until it is valid: in the end the clock is mended."""
    for name in NAMES:  # a leaf whose holder ended is only known to be out of use once its service has another
        live = [c for c in mesh.clients.values() if c.name.partition("#")[0] == name and not c.ended]
        if not live:
            mesh.join(f"{name}#{len(mesh.clients)}")
    for client in mesh.clients.values():
        if client.ended:
            mesh.end(client)
        client.connected, client.frozen, client.rejects = not client.ended, False, False
    for look in range(800):
        if look == 400:
            mesh.set_clock(timedelta(0))
        if resumes_every and look % resumes_every == 0 and look < 400:
            mesh.running_since = mesh.now
        for client in mesh.clients.values():
            mesh.deliver(client)
        mesh.check()
        mesh.tick()
        mesh.check()
        open_plans = [p for p in mesh.plans.values() if p.is_open]
        if not open_plans:
            return _state(mesh)
        for plan in open_plans:
            with suppress(FailedPrecondition):
                if plan.phase.value == "distributing":
                    mesh.carry_out(commands.activate(mesh.world(), POLICY, OPERATOR))
                else:
                    mesh.carry_out(commands.remove(mesh.world(), POLICY, plan.outgoing, OPERATOR))
        mesh.advance(timedelta(seconds=5))
    raise AssertionError(f"still open: {[p for p in mesh.plans.values() if p.is_open]}")


def _state(mesh: Mesh) -> object:
    states = {a.skid: a.state for a in mesh.authorities}
    return states, mesh.bundle.roots, {p.id: (p.phase, p.incoming, p.rolled_back) for p in mesh.plans.values()}


#: For thousands: ROTATION_RUNS=5000 pytest --timeout=0 tests/property/test_rotation.py
RUNS = int(os.environ.get("ROTATION_RUNS", "150"))
Rotations.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=40, deadline=None)
TestRotations = Rotations.TestCase
