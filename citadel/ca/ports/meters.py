"""What is counted and shown of the certificate authority."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol


class IssuanceMeter(Protocol):
    """Counts what the issuer does. Implementation: telemetry.metrics. Never blocks, never raises."""

    def issuance(self, result: str, seconds: float) -> None:
        """One request was answered. `result`: `issued`; `refused` (the request's fault), `unavailable` (no authority or
        no store now), `failed` (a defect, or cut off)."""


class AuthorityMeter(Protocol):
    """Shows how the authorities stand. Implementation: telemetry.metrics. Never blocks, never raises."""

    def expires(self, what: Literal["root", "issuing_ca"], at: datetime | None) -> None:
        """The active root or issuing CA ends `at`; None: there is none."""

    def authorities(self, counts: dict[tuple[str, str], int]) -> None:
        """How many there are now, by (kind, state)."""
