"""A small mesh in memory for tests of rotation: authorities, clients that trust and present, and what is written down.

It keeps the truth (what each client really uses) apart from the record (what it acknowledged), and checks the one
against the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from citadel.ca.model import (
    IN_BUNDLE,
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    KeySource,
    Skid,
    TrustBundle,
)
from citadel.ca.rotation import Holding, LeafGroup, Move, NewAuthority, Plan, RotationPolicy, Step, World
from citadel.ca.rotation.machine import tick
from citadel.errors import Aborted
from citadel.spiffe import TrustDomain

START = datetime(2026, 1, 1, tzinfo=UTC)
DOMAIN = TrustDomain.parse("example.org")
LEAF = timedelta(minutes=10)
POLICY = RotationPolicy(
    reconnect_window=timedelta(seconds=10),
    grace=timedelta(minutes=5),
    assumed_after=timedelta(seconds=30),
    session_life=timedelta(seconds=20),
    emergency_gate=timedelta(seconds=15),
    clock_skew=timedelta(seconds=30),
)
NODE = "spiffe://example.org/spire/agent/local"


def authority(name: str, kind: AuthorityKind, state: AuthorityState, root: str, now: datetime) -> Authority:
    der = name.encode()
    life = timedelta(days=3650) if kind is AuthorityKind.ROOT else timedelta(days=30)
    certificate = AuthorityCertificate(
        der, hashlib.sha256(der).hexdigest(), f"CN={name}", 1, now - timedelta(minutes=1), now + life, Skid(root)
    )
    return Authority(Skid(name), kind, state, DOMAIN, KeySource.SEALED, (certificate,), Skid(root), now, now)


@dataclass
class Leaf:
    number: int
    issuer: Skid
    root: Skid
    not_after: datetime


@dataclass
class MeshClient:
    """One process: `cart`, or `cart#1` when that was started anew. `trusts`, `leaf`: the truth. `rows`: what was
    written down of it."""

    name: str
    trusts: frozenset[Skid] = frozenset()
    sequence: int = 0
    leaf: Leaf | None = None
    connected: bool = True
    frozen: bool = False
    rejects: bool = False
    ended: bool = False
    rows: dict[str, Holding] = field(default_factory=dict)


def _service(client: str) -> str:
    return client.partition("#")[0]


class Mesh:
    """Carries out steps as the store does, and moves bundles and leaves as the node's side does."""

    def __init__(self) -> None:
        self.now = START  # by the server's clock
        self.true_now = START  # by the clients'
        self.running_since = START
        root = authority("r0", AuthorityKind.ROOT, AuthorityState.ACTIVE, "r0", self.now)
        ca = authority("r0-ca", AuthorityKind.ISSUING, AuthorityState.ACTIVE, "r0", self.now)
        self.authorities: tuple[Authority, ...] = (root, ca)
        self.bundle = TrustBundle(DOMAIN, (root.certificate.der,), 1, 300)
        self.plans: dict[str, Plan] = {}
        self.clients: dict[str, MeshClient] = {}
        self.issued: list[tuple[str, Leaf]] = []
        self.made = 0
        self.forced = False
        self.steps: list[Step] = []

    def advance(self, by: timedelta) -> None:
        self.now += by
        self.true_now += by

    def set_clock(self, off: timedelta) -> None:
        """The server's clock is `off` the clients'. Behind by any time, ahead by no more than the stated skew."""
        self.now = self.true_now + off
        self.running_since = min(self.running_since, self.now)  # as the runner does

    # --- what the machine sees

    def world(self) -> World:
        return World(
            self.now,
            self.running_since,
            self.bundle,
            self.authorities,
            tuple(self.plans.values()),
            tuple(row for client in self.clients.values() for row in client.rows.values()),
            tuple(self._groups()),
        )

    def _groups(self) -> list[LeafGroup]:
        newest = dict(self.issued)
        found: dict[tuple[Skid, str], list[Leaf]] = {}
        for name, leaf in self.issued:
            if leaf.not_after > self.now - POLICY.clock_skew:
                found.setdefault((leaf.issuer, name), []).append(leaf)
        return [
            LeafGroup(
                issuer,
                NODE,
                name,
                _id(name),
                len(leaves),
                max(leaf.not_after for leaf in leaves),
                newest[name].issuer != issuer,
                True,
            )
            for (issuer, name), leaves in found.items()
        ]

    # --- what the store does

    def carry_out(self, step: Step) -> None:
        """All of it, or Aborted."""
        states = {a.skid: a.state for a in self.authorities}
        for move in step.moves:
            if states.get(move.skid) is not move.expected:
                raise Aborted(f"{move.skid} is not {move.expected}")
        for plan in step.plans:
            stored = self.plans.get(plan.id)
            if plan.revision != (stored.revision + 1 if stored else 1):
                raise Aborted(f"plan {plan.id} was changed")
        if step.bundle is not None:
            assert step.bundle.sequence == self.bundle.sequence + 1
            assert step.bundle.roots, "an empty bundle"
            self.bundle = step.bundle
        to: dict[Skid, Move] = {m.skid: m for m in step.moves}
        self._check_signers(step)
        self.authorities = (
            *(replace(a, state=to[a.skid].to) if a.skid in to else a for a in self.authorities),
            *(n.authority for n in step.new),
        )
        self.plans |= {p.id: p for p in step.plans}
        self.steps.append(step)

    def _check_signers(self, step: Step) -> None:
        """Nobody signs whom a live client that counts does not trust, by the truth and not by what is on record."""
        signs = {m.skid for m in step.moves if m.to is AuthorityState.ACTIVE}
        roots = {a.skid for a in self.authorities if a.kind is AuthorityKind.ROOT and a.skid in signs}
        if self.forced or step.plans[0].left_behind:
            return
        excused = {e.client for p in self.plans.values() for e in p.excused}
        counted = {c.name for c in self.world().expected(POLICY)} - excused
        for client in self.clients.values():
            if client.name in counted and client.sequence:
                assert roots <= client.trusts, f"{client.name} does not trust {roots}"

    def tick(self, policy: RotationPolicy = POLICY) -> None:
        """Everything that is due."""
        for _ in range(50):
            step = tick(self.world(), policy)
            if step is None:
                return
            self.carry_out(step)
        raise AssertionError("the machine does not come to rest")

    def new_root(self) -> tuple[Skid, NewAuthority]:
        """A root that is written down with its key, and an issuing CA for it."""
        self.made += 1
        name = f"r{self.made}"
        root = authority(name, AuthorityKind.ROOT, AuthorityState.PREPARED, name, self.now)
        self.authorities = (*self.authorities, root)
        ca = authority(f"{name}-ca", AuthorityKind.ISSUING, AuthorityState.PREPARED, name, self.now)
        return root.skid, NewAuthority(ca, None)

    # --- what the node and the clients do

    def join(self, name: str) -> MeshClient:
        client = self.clients[name] = MeshClient(name)
        self.deliver(client)
        return client

    def deliver(self, client: MeshClient, *, answers: bool = True, leaf: bool = True) -> None:
        """Bring a client what there is now. Without `answers` it takes it into use, and the answer is lost."""
        if not client.connected or client.ended:
            return
        if client.sequence != self.bundle.sequence:
            if client.frozen or client.rejects:
                self._row(client, "ROOTCA", "nack" if client.rejects and not client.frozen else "sent")
            else:
                client.sequence = self.bundle.sequence
                client.trusts = frozenset(Skid(der.decode()) for der in self.bundle.roots)
                self._row(client, "ROOTCA", "ack" if answers else "sent")
        elif answers and not client.frozen:
            self._row(client, "ROOTCA", "ack")
        if leaf:
            self._give_leaf(client, answers=answers)

    def _give_leaf(self, client: MeshClient, *, answers: bool) -> None:
        issuing = next(a for a in self.authorities if a.kind is AuthorityKind.ISSUING and a.state.value == "active")
        old = client.leaf
        due = old is None or old.issuer != issuing.skid or old.not_after - self.now < LEAF / 2
        held = self._newest(_service(client.name))
        if due and (held is None or held.issuer != issuing.skid or held.not_after - self.now < LEAF / 2):
            held = Leaf(len(self.issued), issuing.skid, issuing.root_skid, self.now + LEAF)
            self.issued.append((_service(client.name), held))
        if client.frozen or held is None:
            self._row(client, "default", "sent")
            return
        client.leaf = held
        self._row(client, "default", "ack" if answers else "sent")

    def _newest(self, name: str) -> Leaf | None:
        return next((leaf for who, leaf in reversed(self.issued) if who == name), None)

    def _row(self, client: MeshClient, resource: str, last: str) -> None:
        old = client.rows.get(resource) or Holding(NODE, client.name, resource, resource == "ROOTCA", self.now, last)
        row = replace(old, last=last, at=self.now if last != old.last or last != "sent" else old.at)
        if last == "ack" and resource == "ROOTCA":
            row = replace(row, sequence=client.sequence)
        if last == "ack" and resource == "default" and client.leaf is not None:
            row = replace(
                row, authority=client.leaf.issuer, not_after=client.leaf.not_after, spiffe_id=_id(_service(client.name))
            )
        client.rows[resource] = row

    def disconnect(self, client: MeshClient) -> None:
        client.connected = False
        for resource in client.rows:
            self._row(client, resource, "gone")

    def end(self, client: MeshClient, *, told: bool = True) -> None:
        """Its process ends. Without `told`, nobody notices but that its streams ended."""
        client.leaf, client.trusts, client.sequence = None, frozenset(), 0
        client.connected, client.ended, client.frozen = False, True, False
        for resource in client.rows:
            self._row(client, resource, "ended" if told else "gone")

    # --- what must hold

    def check(self) -> None:
        active = [a for a in self.authorities if a.state is AuthorityState.ACTIVE]
        assert sorted(a.kind for a in active) == [AuthorityKind.ISSUING, AuthorityKind.ROOT]
        root = next(a for a in active if a.kind is AuthorityKind.ROOT)
        assert next(a for a in active if a.kind is AuthorityKind.ISSUING).root_skid == root.skid
        trusted = {Skid(der.decode()) for der in self.bundle.roots}
        assert root.skid in trusted
        assert trusted == {a.skid for a in self.authorities if a.kind is AuthorityKind.ROOT and a.state in IN_BUNDLE}
        if self.forced:
            return
        excused = {e.client for p in self.plans.values() for e in p.excused}
        presenting = [c for c in self.clients.values() if c.leaf is not None and c.leaf.not_after > self.true_now]
        for client in presenting:
            assert client.leaf is not None
            assert client.leaf.root in trusted, f"{client.name} presents a leaf of a root that left the bundle"
            for other in presenting:
                if other.name not in excused:
                    assert client.leaf.root in other.trusts, f"{other.name} does not trust what {client.name} presents"


def _id(name: str) -> str:
    return f"spiffe://example.org/{name}"
