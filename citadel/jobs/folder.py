"""The watched folder: keeps the entries of an apply set what the files in a folder say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import structlog

from citadel.config import EntryDraft, placed_mistakes, read_entry_files
from citadel.errors import AlreadyExists, BadFile, CitadelError, Conflicts, FailedPrecondition
from citadel.registry import Entry
from citadel.registry.apply import Plan
from citadel.spiffe import SpiffeId
from citadel.stir import HEARTBEAT, stirrings

_State = tuple[object, ...]
log = structlog.get_logger("citadel.jobs")


class AppliesEntries(Protocol):
    """The use case behind it (registry.Registry)."""

    async def apply(
        self, wanted: Sequence[Entry], apply_set: str, actor: str, *, prune: bool = False, dry_run: bool = False
    ) -> Plan: ...


class EntryFolder:
    """Applies `folder` once it has changed and come to rest, and every `every` whether it did or not, so that what
    others did to the set is put right. Files with a mistake change nothing: what was applied before stays, and `fault`
    says what is wrong.

    At rest means that nothing changed for `rest`, nor while the files were read: one that is being written is never
    taken for a whole one, and of files that are exchanged together never some old and some new ones.

    With `prune`, entries of the set that are in no file are deleted; but a folder without any entry prunes nothing,
    since that is what a volume looks like that was not mounted.
    """

    def __init__(
        self,
        registry: AppliesEntries,
        node_id: SpiffeId,
        folder: Path,
        apply_set: str,
        *,
        prune: bool,
        every: timedelta = timedelta(minutes=1),
        rest: timedelta = timedelta(milliseconds=300),
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._registry = registry
        self._node_id = node_id
        self._folder = folder
        self._set = apply_set
        self._prune = prune
        self._every = every
        self._rest = rest
        self._heartbeat = heartbeat
        self._drafts: Sequence[EntryDraft] = ()
        self._read_in: _State | None = None
        self.fault = ""

    async def watch(self) -> None:
        """Apply now, and then whenever there is a reason to, until cancelled. Raises nothing else."""
        loop = asyncio.get_running_loop()
        applied: _State | None = None
        due = loop.time()
        async with aclosing(stirrings(self._folder, heartbeat=self._heartbeat)) as reasons:
            async for _ in reasons:
                if await self._look() != applied or loop.time() >= due:
                    applied = await self._apply_at_rest()
                    due = loop.time() + self._every.total_seconds()

    async def apply(self) -> Plan:
        """Apply the folder as it is now. Raises BadFile with every mistake, AlreadyExists, Aborted, Unavailable."""
        return await self._apply(await asyncio.to_thread(read_entry_files, [self._folder]))

    async def _apply_at_rest(self) -> _State:
        """The state that was applied, or was found to be wrong."""
        while True:
            state = await self._look()
            await asyncio.sleep(self._rest.total_seconds())
            if await self._look() == state and await self._apply_or_tell(state):
                return state

    async def _apply(self, drafts: Sequence[EntryDraft]) -> Plan:
        prune = self._prune and bool(drafts)
        entries = [_entry(draft, self._node_id) for draft in drafts]
        try:
            plan = await self._registry.apply(entries, self._set, f"system:apply:{self._set}", prune=prune)
        except BadFile as error:
            raise BadFile(placed_mistakes(error.message, drafts)) from error
        except AlreadyExists as error:
            raise Conflicts("\n".join(map(str, placed_mistakes(error.message, drafts)))) from error
        if self._prune and not drafts:
            raise FailedPrecondition(f"{self._folder} has no entries: nothing is pruned", mend="is it mounted?")
        return plan

    async def _look(self) -> _State:
        return await asyncio.to_thread(_look, self._folder)

    async def _apply_or_tell(self, state: _State) -> bool:
        """False if the files changed while they were read."""
        try:
            drafts = await self._read(state)
            if drafts is None:
                return False
            plan = await self._apply(drafts)
        except CitadelError as error:
            self._wrong(error.sentence())
            return True
        self.fault = ""
        if plan.create or plan.update or plan.delete:
            log.info(
                "the folder of entries was applied",
                folder=str(self._folder),
                created=len(plan.create),
                updated=len(plan.update),
                deleted=len(plan.delete),
            )
        return True

    async def _read(self, state: _State) -> Sequence[EntryDraft] | None:
        """What the files say in `state`; None if it is over. Raises BadFile. Files that are as they were are not read
        again: ten thousand entries take seconds."""
        if state != self._read_in:
            try:
                drafts = await asyncio.to_thread(read_entry_files, [self._folder])
            except CitadelError:
                if await self._look() != state:
                    return None
                raise
            if await self._look() != state:
                return None
            self._drafts, self._read_in = drafts, state
        return self._drafts

    def _wrong(self, sentence: str) -> None:
        fault = f"the folder of entries is not applied: {'; '.join(sentence.splitlines())}"
        if fault != self.fault:  # once, not every minute
            log.warning("the folder of entries is not applied", fault=sentence)
        self.fault = fault


def _look(folder: Path) -> _State:
    """What tells one state of the folder from another: names, and what changes when a file is written or replaced."""
    try:
        facts = ((file.name, file.stat()) for file in os.scandir(folder))
        return tuple(sorted((name, f.st_ino, f.st_size, f.st_mtime_ns) for name, f in facts))
    except OSError as error:  # it is not there, or a file went away just now
        return (error.errno,)


def _entry(draft: EntryDraft, node_id: SpiffeId) -> Entry:
    nothing = timedelta(0)
    return Entry(
        id=draft.id,
        spiffe_id=draft.spiffe_id,
        parent_id=draft.parent_id or node_id,
        selectors=draft.selectors,
        x509_ttl=draft.x509_ttl or nothing,
        jwt_ttl=draft.jwt_ttl or nothing,
        dns_names=draft.dns_names,
        federates_with=draft.federates_with,
        hint=draft.hint,
        admin=draft.admin,
        downstream=draft.downstream,
        store_svid=draft.store_svid,
        expires_at=draft.expires_at,
        labels=draft.labels,
    )
