"""What rotation needs from the world. Each comment is a contract; tests/contract checks it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.ca.model import Authority
from citadel.ca.rotation.clients import Holding
from citadel.ca.rotation.leaves import LeafGroup
from citadel.ca.rotation.plan import Plan
from citadel.ca.rotation.policy import RootKind
from citadel.ca.rotation.schedule import Approval
from citadel.ca.rotation.step import NewAuthority, Step


class RotationStore(Protocol):
    """Where plans are written down. Implementation: store.rotation. Contract: tests/contract/test_rotation_store.py."""

    async def plans(self) -> list[Plan]:
        """All of them, oldest first."""

    async def leaves(self, at: datetime) -> list[LeafGroup]:
        """All leaves that are unexpired at `at` and were not recorded as failed, grouped."""

    async def approvals(self) -> list[Approval]:
        """Every approval of a planned rotation that was given, the newest of each root."""

    async def approve(self, approval: Approval, audit: AuditEvent) -> None:
        """Write it down, in the place of one of the same root, in one transaction with its audit record."""

    async def carry_out(self, step: Step) -> None:
        """Everything in `step`, with its audit record, in one transaction; returns when it would survive the loss of
        power. Safe from many servers at once.

        Raises Aborted, having changed nothing, if an authority is not in the state that the step expects, a plan is not
        one revision behind, the bundle's sequence is not one behind, or there would be two active authorities of a
        kind, or none; AlreadyExists if a new authority is known.
        """


class ClientRecord(Protocol):
    """What clients were last known to hold. Implementation: api.holdings over store.records."""

    async def holdings(self) -> list[Holding]: ...


class RootMaker(Protocol):
    """Makes what a rotation begins with. Implementation: roots.makers."""

    async def make(self, kind: RootKind, issuer: str = "") -> Authority:
        """A root of that kind, not plugged in, in state PREPARED, durable with its key; `issuer`: which one, of those
        that are in Vault. Raises Unavailable, FailedPrecondition."""

    async def make_issuing(self, root: Authority) -> NewAuthority:
        """An issuing CA under `root`, in state PREPARED, with its sealed key; written down by whoever asked for it."""
