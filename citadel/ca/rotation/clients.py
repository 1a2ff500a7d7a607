"""Clients: what each was last known to hold, and how it stands towards a bundle.

Source: shared specification of rotation, "Who is expected to acknowledge". A client is expected from when it first held
anything of the trust domain until it acknowledged, its last leaf expired, or its process ended; neither a disconnect
nor a restart of ours takes it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from citadel.ca.model import Skid


@dataclass(frozen=True, slots=True)
class Holding:
    """One client and one resource, as written down last.

    `at` is of the newest report, `last` its kind. `sequence` (a bundle's) and `authority`, `not_after` (a leaf's) are
    of the newest acknowledgement: what the client really uses. `spiffe_id` is empty for a bundle.
    `unanswered_since`: when it was first sent something that it has not answered since.
    """

    node: str
    client: str
    resource: str
    is_bundle: bool
    at: datetime
    last: str  # "sent", "ack", "nack", "gone", "ended"
    sequence: int = 0
    authority: Skid | None = None
    not_after: datetime | None = None
    spiffe_id: str = ""
    nack_detail: str = ""
    unanswered_since: datetime | None = None

    @property
    def silent_since(self) -> datetime:
        """When it was last heard of; who comes back again and again without an answer was never heard of."""
        return self.unanswered_since or self.at

    @property
    def connected(self) -> bool:
        return self.last not in ("gone", "ended")

    @property
    def ended(self) -> bool:
        """Its process has ended: what it held was in its memory, and is nowhere any more."""
        return self.last == "ended"

    def lives(self, now: datetime) -> bool:
        """Whether it is a leaf that can still be used."""
        return not self.ended and self.not_after is not None and self.not_after > now


class Standing(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    SILENT = "silent"  # connected, and has not answered
    NACKED = "nacked"  # rejected it
    GONE = "gone"  # its stream ended before it answered
    ELSEWHERE = "elsewhere"  # holds a leaf and never asked us for a bundle: its trust comes from elsewhere
    EXCUSED = "excused"  # silent or gone for longer than the grace, and recorded so


@dataclass(frozen=True, slots=True)
class Client:
    """One client, with all that it holds."""

    node: str
    name: str
    holdings: tuple[Holding, ...]

    @property
    def connected(self) -> bool:
        return any(h.connected for h in self.holdings)

    @property
    def ended(self) -> bool:
        """Its process has ended, and with it all that it held."""
        return all(h.ended for h in self.holdings)

    @property
    def bundles(self) -> tuple[Holding, ...]:
        return tuple(h for h in self.holdings if h.is_bundle)

    @property
    def sequence(self) -> int:
        """Of the oldest bundle that it uses; 0 if it acknowledged none."""
        return min((h.sequence for h in self.bundles), default=0)

    def is_expected(self, now: datetime, memory: timedelta, skew: timedelta) -> bool:
        """A client without a leaf is remembered for `memory` after it was last heard of: only its bundle can lag. One
        whose process has ended is expected no more."""
        if self.ended:
            return False
        if self.connected or any(h.lives(now - skew) for h in self.holdings):
            return True
        return any(now - h.at < memory for h in self.bundles)


def by_client(holdings: Iterable[Holding]) -> list[Client]:
    """All clients, in the order of their names."""
    found: dict[tuple[str, str], list[Holding]] = {}
    for one in holdings:
        found.setdefault((one.node, one.client), []).append(one)
    return [Client(node, name, tuple(those)) for (node, name), those in sorted(found.items())]


@dataclass(frozen=True, slots=True)
class Behind:
    """A client that has not acknowledged: what it holds instead, how it stands, and since when."""

    node: str
    client: str
    standing: Standing
    since: datetime
    sequence: int
    detail: str = ""

    @property
    def sentence(self) -> str:
        holds = f"holds bundle {self.sequence}" if self.sequence else "holds no bundle of ours"
        return f"{self.client} ({self.standing} since {self.since.isoformat(timespec='seconds')}, {holds})"


def stand(client: Client, sequence: int, since: datetime) -> Behind | None:
    """How `client` is behind the bundle `sequence`, which was published at `since`; None if it acknowledged it."""
    late = [h for h in client.bundles if h.sequence < sequence]
    if not client.bundles:
        return Behind(client.node, client.name, Standing.ELSEWHERE, since, 0)
    if not late:
        return None
    rejected = next((h for h in late if h.last == "nack"), None)
    if rejected is not None:
        return Behind(
            client.node, client.name, Standing.NACKED, rejected.at, client.sequence, rejected.nack_detail[:200]
        )
    gone = [h for h in late if not h.connected]
    if gone:
        return Behind(client.node, client.name, Standing.GONE, max(h.silent_since for h in gone), client.sequence)
    # Asked before and never answered: silent since then, however often the bundle has changed meanwhile.
    began = min(h.silent_since if h.last == "sent" else max(h.at, since) for h in late)
    return Behind(client.node, client.name, Standing.SILENT, began, client.sequence)
