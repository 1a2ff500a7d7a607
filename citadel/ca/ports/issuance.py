"""The durable record of everything signed, and how it is looked through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from citadel.audit import AuditEvent
from citadel.ca.model import IssuanceIntent, IssuanceOutcome, IssuanceRecord, Skid
from citadel.spiffe import SpiffeId


class IssuanceLog(Protocol):
    """The durable record of everything signed. Implementation: store.issuance. Contract:
    tests/contract/test_issuance_log.py."""

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        """Write serial and audit record. Returns only when both would survive the loss of power; concurrent calls
        share a transaction (group commit) and fail or succeed one by one where they can. Raises AlreadyExists if the
        serial was ever used, Unavailable if the store cannot be written now.
        """

    async def settle(self, outcome: IssuanceOutcome) -> None:
        """Record how it ended. May return before it is durable (bounded queue; waits when that is full), and is
        written in order, with the next group. Never lost by a graceful stop. A serial that was never intended is
        ignored; the first outcome stays, except that UNKNOWN gives way to what its own issuer says later."""

    async def settle_as(self, outcome: IssuanceOutcome, serial: int, audit: AuditEvent) -> None:
        """As `settle`, of a certificate that bears another serial than its intent: the record has that one from now on.
        Returns only when it would survive the loss of power. Raises AlreadyExists if `serial` was ever used,
        Unavailable."""

    async def unsettled(self, before: datetime) -> list[IssuanceIntent]:
        """Intents older than `before` without an outcome, whoever wrote them."""

    async def get(self, serial: int) -> IssuanceRecord:
        """Raises NotFound."""

    async def find(self, query: IssuanceQuery) -> list[IssuanceRecord]:
        """Newest first, at most `query.limit`, those that come after `query.after` in that order."""


@dataclass(frozen=True, slots=True)
class IssuanceQuery:
    spiffe_id: SpiffeId | None = None
    authority: Skid | None = None
    entry_id: str | None = None
    live_at: datetime | None = None  # only what is unexpired then
    expires_before: datetime | None = None
    orphaned: bool = False  # only what belongs to no present entry, and is unexpired at `live_at`
    serial_prefix: str = ""  # lower-case hex digits, with the zeros that lead to 32 digits
    limit: int = 100
    after: int | None = None  # a serial: continue behind it
