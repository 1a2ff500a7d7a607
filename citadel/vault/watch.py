"""VaultWatch: looks again and again at what we rely on in Vault, and tells what changed behind our back.

Told once when it begins and once when it is over: in the log and the audit log; meanwhile by `findings`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from citadel.audit import AuditEvent
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.clock import Clock
from citadel.errors import CitadelError
from citadel.vault.findings import Finding
from citadel.vault.root_watch import RootWatch
from citadel.vault.standing import NoMeter, VaultMeter
from citadel.vault.transit import TransitKek

_ACTOR = "system:vault"
log = structlog.get_logger("citadel.vault")


@dataclass(frozen=True, slots=True)
class Standing:
    """A finding, and since when it has been so."""

    finding: Finding
    since: datetime


class Watched(Protocol):
    """What of Vault signs. Implementations: transit_signer.TransitSigner, leaf_issuer.PkiCertifier."""

    async def examine(self) -> list[Finding]: ...


class VaultWatch:
    """`signer` gives what of Vault signs for an issuing CA; None: nothing does. `record` writes into the
    audit log."""

    def __init__(
        self,
        clock: Clock,
        *,
        root: RootWatch | None,
        kek: TransitKek | None,
        authorities: Callable[[], Awaitable[Sequence[Authority]]],
        signer: Callable[[], Watched | None],
        record: Callable[[AuditEvent], Awaitable[None]],
        meter: VaultMeter | None = None,
    ) -> None:
        self._clock = clock
        self._root = root
        self._kek = kek
        self._authorities = authorities
        self._signer = signer
        self._record = record
        self._meter = meter or NoMeter()
        self._standing: dict[tuple[str, str], Standing] = {}
        self._unrecorded: list[AuditEvent] = []

    def findings(self) -> list[Standing]:
        """As of the last look that Vault answered; what stops something comes first."""
        return sorted(self._standing.values(), key=lambda one: (not one.finding.stops, one.since, one.finding.key))

    async def run(self, every: timedelta) -> None:
        """Look again and again, until cancelled. What keeps it from seeing is the session's to tell."""
        while True:
            with suppress(CitadelError):
                await self.look()
            await asyncio.sleep(every.total_seconds())

    async def look(self) -> None:
        """Look at everything. Raises what kept it from being seen; of that the findings stay as they were."""
        looks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
            ("root", self._look_at_root),
            ("signer", self._look_at_signer),
            ("kek", self._look_at_kek),
        ]
        failure: CitadelError | None = None
        found: dict[tuple[str, str], Finding] = {}
        for part, look in looks:
            try:
                found |= {(f"{part}:{one.kind}", one.subject): one for one in await look()}
            except CitadelError as error:
                failure = failure or error
                found |= {key: one.finding for key, one in self._standing.items() if key[0].startswith(f"{part}:")}
        self._take(found)
        await self._write()
        if failure is not None:
            raise failure

    # --- parts

    async def _look_at_root(self) -> list[Finding]:
        if self._root is None:
            return []
        known = await self._authorities()
        active = (one for one in known if (one.kind, one.state) == (AuthorityKind.ROOT, AuthorityState.ACTIVE))
        in_force = next(active, None)
        return await self._root.look(known, in_force) if in_force is not None else []

    async def _look_at_signer(self) -> list[Finding]:
        signer = self._signer()
        return await signer.examine() if signer is not None else []

    async def _look_at_kek(self) -> list[Finding]:
        return await self._kek.examine() if self._kek is not None else []

    # --- telling

    def _take(self, found: dict[tuple[str, str], Finding]) -> None:
        now, before = self._clock.now(), self._standing
        self._standing = {
            key: Standing(finding, before[key].since if key in before else now) for key, finding in found.items()
        }
        for key in found.keys() - before.keys():
            log.warning("Vault changed behind our back", what=str(found[key].kind), reason=str(found[key]))
            self._unrecorded.append(_event(found[key], "vault.finding", now))
        for key in before.keys() - found.keys():
            over = before[key].finding
            log.info("it is over in Vault", what=str(over.kind), subject=over.subject)
            self._unrecorded.append(_event(over, "vault.finding-over", now))
        counts: dict[str, int] = {}
        for finding in found.values():
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
        self._meter.vault_findings(counts)

    async def _write(self) -> None:
        """What could not be written is written at the next look."""
        while self._unrecorded:
            await self._record(self._unrecorded[0])
            del self._unrecorded[0]


def _event(finding: Finding, action: str, now: datetime) -> AuditEvent:
    return AuditEvent(now, _ACTOR, action, finding.subject, {"kind": str(finding.kind), "told": finding.sentence})


__all__ = ["Standing", "VaultWatch", "Watched"]
