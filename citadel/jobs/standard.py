"""The jobs that every server has: what each does, over the few calls that it needs of the other rooms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from citadel.clock import Clock
from citadel.errors import InvalidInput
from citadel.jobs.model import Every, Job

_PRUNE_TIMEOUT = timedelta(minutes=10)


class RenewsCa(Protocol):
    async def renew_if_due(self) -> bool:
        """Whether the issuing CA was renewed."""


class ReloadsPluggedCa(Protocol):
    async def reload_plugged(self) -> None: ...


class ExpiresEntries(Protocol):
    async def expire(self) -> int:
        """How many entries were deleted because their time is over."""


class PrunesIssuances(Protocol):
    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` records of certificates that expired before; how many."""


class ForgetsClients(Protocol):
    async def forget(self, before: datetime) -> int:
        """Delete what clients last said before; how many."""


class ForgetsAuthorities(Protocol):
    async def forget_removed(self, before: datetime) -> int:
        """Forget issuing CAs that were removed before then, and of which no issuance is on record; how many."""


class SignsCheckpoints(Protocol):
    async def checkpoint(self) -> object | None:
        """What was signed, if there was anything new."""


class PrunesAudit(Protocol):
    async def prune(self, before: datetime, batch: int) -> int:
        """Delete the records that were signed for before then, `batch` in a transaction; how many."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept, and how many one deleting transaction takes. Raises InvalidInput."""

    issuance: timedelta
    clients: timedelta
    audit: timedelta
    batch: int = 1000

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InvalidInput(f"a batch of {self.batch} rows deletes nothing; it must be 1 or more")


def renew_ca(authorities: RenewsCa, every: timedelta) -> Job:
    """Renew the issuing CA when it is time. On one server: two would make two."""

    async def run() -> str:
        return "the issuing CA was renewed" if await authorities.renew_if_due() else ""

    return Job("renew-ca", Every(every), run, cluster=True)


def plugged_ca(authorities: ReloadsPluggedCa, every: timedelta) -> Job:
    """Look for changed files of a plugged-in CA. On each server: each has files of its own."""

    async def run() -> str:
        await authorities.reload_plugged()
        return ""

    return Job("plugged-ca", Every(every), run)


def vault_root(authorities: ReloadsPluggedCa, every: timedelta) -> Job:
    """Look at the root in Vault: whether it is what it was, and what else came into its mount."""

    async def run() -> str:
        await authorities.reload_plugged()
        return ""

    return Job("vault-root", Every(every), run)


def expire_entries(registry: ExpiresEntries, every: timedelta) -> Job:
    """Delete the entries whose time is over."""

    async def run() -> str:
        return _deleted(await registry.expire(), "entries")

    return Job("expire-entries", Every(every), run, cluster=True)


def prune(
    issuance: PrunesIssuances,
    clients: ForgetsClients,
    audit: PrunesAudit,
    authorities: ForgetsAuthorities,
    clock: Clock,
    retention: Callable[[], Retention],
    every: timedelta,
) -> Job:
    """Delete old records, batch after batch, so that no transaction is long. `retention` is asked at each run: it may
    have been configured anew."""

    async def run() -> str:
        keep, now = retention(), clock.now()
        total = 0
        while deleted := await issuance.prune(now - keep.issuance, keep.batch):
            total += deleted
        forgotten = await clients.forget(now - keep.clients)
        records = await audit.prune(now - keep.audit, keep.batch)
        removed = await authorities.forget_removed(now - keep.issuance)
        counts = (
            (total, "issuance records"),
            (forgotten, "clients' records"),
            (records, "audit records"),
            (removed, "removed issuing CAs"),
        )
        return ", ".join(_deleted(count, what) for count, what in counts if count)

    return Job("prune", Every(every), run, timeout=_PRUNE_TIMEOUT, cluster=True)


def audit_checkpoint(notary: SignsCheckpoints, every: timedelta) -> Job:
    """Sign how far this server's audit chain goes. On each server: each has a chain of its own."""

    async def run() -> str:
        return "a checkpoint was signed" if await notary.checkpoint() is not None else ""

    return Job("audit-checkpoint", Every(every), run)


def _deleted(count: int, what: str) -> str:
    return f"{count} {what} deleted" if count else ""
