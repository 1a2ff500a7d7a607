"""What the node's side tells of itself, to whoever counts it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol


class WorkloadMeter(Protocol):
    """Counts and shows what the node does. Implementation: telemetry.metrics. Never blocks, never raises."""

    def attestation(
        self, attestor: str, outcome: Literal["known", "nothing", "failed", "late"], seconds: float
    ) -> None:
        """One attestor looked at one caller. `known`: it found selectors; `late`: it was not waited for any longer."""

    def renewal(self, outcome: Literal["first", "renewed", "failed"]) -> None:
        """A certificate was obtained, the first of its entry or a new one, or one attempt at it failed."""

    def identities(self, held: int, soonest: datetime | None) -> None:
        """So many identities are held now, and the first of them expires at `soonest`."""

    def refused(self, quota: Literal["connections", "connections_per_uid", "streams_per_uid"]) -> None:
        """A caller was turned away because this quota is used up."""


class Unmetered:
    """Counts nothing. Contract: WorkloadMeter."""

    def attestation(self, attestor: str, outcome: str, seconds: float) -> None: ...

    def renewal(self, outcome: str) -> None: ...

    def identities(self, held: int, soonest: datetime | None) -> None: ...

    def refused(self, quota: str) -> None: ...
