"""How a session with Vault stands: the token that it holds, what it tells of itself, and who is shown it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Held:
    """The token that we hold. `ttl` in seconds from `ticks` on; 0: it never ends."""

    token: str = field(repr=False)
    ttl: float
    renewable: bool
    ticks: float
    since: datetime
    name: str
    policies: tuple[str, ...]
    full: float  # what its TTL was at login

    @property
    def until(self) -> datetime | None:
        return self.since + timedelta(seconds=self.ttl) if self.ttl else None


@dataclass(frozen=True, slots=True)
class ServerState:
    """`sys/health`, which needs no token."""

    version: str
    cluster: str
    initialised: bool
    sealed: bool
    standby: bool


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """How it stands, without a secret. `fault` is empty while Vault does what we ask; else it is so since `since`.
    `last_fault` was the last one, and ended, or was seen last, at `last_fault_at`. `server`: as Vault says of itself,
    when it was asked last."""

    address: str
    signed_in_as: str
    policies: tuple[str, ...]
    until: datetime | None
    renewed_at: datetime | None
    fault: str
    since: datetime | None
    last_fault: str = ""
    last_fault_at: datetime | None = None
    server: ServerState | None = None


class VaultMeter(Protocol):
    """Shows how it stands. Implementation: telemetry.metrics. Never blocks, never raises."""

    def vault(self, *, up: bool, sealed: bool, standby: bool, token_ends: datetime | None) -> None:
        """How Vault stands, and when our token ends (None: never, or there is none)."""

    def vault_call(self, result: str, seconds: float) -> None:
        """One call was answered: `ok`, `refused` (it or we were wrong), `unavailable`."""

    def vault_findings(self, counts: Mapping[str, int]) -> None:
        """How many findings of each kind there are now (findings.FindingKind); all others are 0."""


class NoMeter:
    """Shows nothing."""

    def vault(self, *, up: bool, sealed: bool, standby: bool, token_ends: datetime | None) -> None: ...

    def vault_call(self, result: str, seconds: float) -> None: ...

    def vault_findings(self, counts: Mapping[str, int]) -> None: ...
