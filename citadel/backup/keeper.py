"""Keeps the high-water mark while a server runs, and refuses a database that is behind it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from citadel.audit.ports import OwnChain
from citadel.ca.ports import AuthorityStore
from citadel.changes import Changes, Topic
from citadel.errors import CitadelError, FailedPrecondition
from citadel.spiffe import TrustDomain
from citadel.store.high_water import HighWater, read_mark, write_mark

_EVERY = 10.0  # seconds; for the audit log, which grows all the time
_AT_ONCE = (Topic.BUNDLES, Topic.AUTHORITIES, Topic.ROTATION)


class HighWaterKeeper:
    """The file at `path` is never ahead of the database: it is written after it, at once when a bundle, an authority or
    a rotation changes, every few seconds for all else, and at a graceful stop."""

    def __init__(
        self, path: Path, authorities: AuthorityStore, chain: OwnChain, trust_domain: TrustDomain, changes: Changes
    ) -> None:
        self._path = path
        self._authorities = authorities
        self._chain = chain
        self._trust_domain = trust_domain
        self._changes = changes
        self._database_id = ""
        self._written: HighWater | None = None

    def know(self, database_id: str) -> None:
        self._database_id = database_id

    async def refuse_older(self) -> None:
        """Raises FailedPrecondition if the database is behind what this server has seen; PermissionDenied."""
        mark = await asyncio.to_thread(read_mark, self._path)
        if mark is None:
            return
        now = await self._now()
        # Of another writer's chain (the server was renamed) nothing can be said.
        audit = now.audit_sequence if now.writer == mark.writer else mark.audit_sequence
        if behind := mark.behind(self._database_id, now.bundle_sequence, audit):
            raise FailedPrecondition(
                f"the database is older than what was in use here: {behind}",
                mend="restore the newest one; or accept what is lost: citadel backup accept-older (see docs/backup.md)",
            )

    async def run(self) -> None:
        """Keep the mark, until cancelled."""
        async with self._changes.subscribe(_AT_ONCE) as news:
            follower = aiter(news)
            while True:
                await self.write()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY):
                        await anext(follower)

    async def last(self) -> None:
        """At a graceful stop."""
        with suppress(CitadelError):  # an older mark is a true one
            await self.write()

    async def write(self) -> None:
        mark = await self._now()
        if mark != self._written and mark.audit_sequence:
            await asyncio.to_thread(write_mark, self._path, mark)
            self._written = mark

    async def _now(self) -> HighWater:
        bundle, tip = await self._authorities.bundle(self._trust_domain), self._chain.tip()
        sequence = bundle.sequence if bundle else 0
        return HighWater(self._database_id, sequence, self._chain.writer, tip[0] if tip else 0)


__all__ = ["HighWaterKeeper"]
