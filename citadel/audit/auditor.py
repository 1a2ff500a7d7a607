"""Auditor: verifies the chains in the store against what was signed for, and against what was kept elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from citadel.audit.checkpoint import AuditKey, Checkpoint, Kind
from citadel.audit.ports import AuditLog, Sealer
from citadel.audit.sealing import unseal
from citadel.audit.verify import ChainReport, ChainWalk, Trust
from citadel.errors import CitadelError

_PAGE = 1000
_ATTEMPTS = 3  # at a chain that is pruned while we read it


class Auditor:
    """A key is trusted if its sealed private half opens under our key-encryption key: whoever can write to the database
    alone can bring none in. Whoever also has the key-encryption key can, so operators pin the key's id elsewhere."""

    def __init__(self, log: AuditLog, kek: Sealer) -> None:
        self._log = log
        self._kek = kek

    async def keys(self) -> list[AuditKey]:
        """The keys that we trust, the newest last."""
        trusted = []
        for sealed in await self._log.keys():
            with suppress(CitadelError):
                await unseal(sealed, self._kek)
                trusted.append(sealed.key)
        return trusted

    async def verify(self, outside: Sequence[Checkpoint] = (), pinned: Collection[str] = ()) -> list[ChainReport]:
        """Every chain, from its first record, or from where it was pruned, to its last.

        `outside` are checkpoints that were kept elsewhere; `pinned` ids of the only keys that may have signed.
        """
        trust = Trust(await self.keys(), pinned)
        writers = sorted({*await self._log.writers(), *(checkpoint.writer for checkpoint in outside)})
        return [
            await self._chain(writer, trust, [kept for kept in outside if kept.writer == writer]) for writer in writers
        ]

    async def verify_tail(self, writer: str) -> ChainReport:
        """One chain, from its newest checkpoint on."""
        return await self._chain(writer, Trust(await self.keys()), (), tail=True)

    async def verify_through(self, writer: str, sequence: int) -> ChainReport:
        """One chain, from where it was pruned up to a record that a checkpoint is for."""
        checkpoints = [kept for kept in await self._log.checkpoints(writer) if kept.sequence <= sequence]
        walk = await asyncio.to_thread(ChainWalk, writer, checkpoints, Trust(await self.keys()))
        await self._feed(walk, writer, sequence)
        return walk.report()

    async def _chain(
        self, writer: str, trust: Trust, outside: Sequence[Checkpoint], *, tail: bool = False
    ) -> ChainReport:
        for attempt in range(_ATTEMPTS):
            checkpoints = await self._log.checkpoints(writer)
            walk = await asyncio.to_thread(ChainWalk, writer, checkpoints, trust, outside, tail=tail)
            await self._feed(walk, writer)
            report = walk.report()
            if not report.faults or attempt == _ATTEMPTS - 1 or not await self._was_pruned(writer, walk.base):
                break
        return report

    async def _feed(self, walk: ChainWalk, writer: str, through: int | None = None) -> None:
        while lines := await self._log.read(writer, walk.at, _PAGE):
            for line in lines:
                if through is not None and line.sequence > through:
                    return
                walk.feed(line)

    async def _was_pruned(self, writer: str, known: int) -> bool:
        checkpoints = await self._log.checkpoints(writer)
        return any(kept.kind is Kind.BASE and kept.sequence > known for kept in checkpoints)
