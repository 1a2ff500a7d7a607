"""Policies from a file or folder that is followed: read when it has come to rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from citadel.authz.sources.files import files_of, read_paths
from citadel.authz.sources.origin import Reading
from citadel.stir import HEARTBEAT, stirrings

_State = tuple[object, ...]


class FolderOrigin:
    """A change is read once nothing changed for `rest`, nor while the files were read. Contract: origin.Origin."""

    def __init__(
        self, path: Path, *, rest: timedelta = timedelta(milliseconds=200), heartbeat: float = HEARTBEAT
    ) -> None:
        self._path = path
        self._rest = rest
        self._heartbeat = heartbeat

    @property
    def where(self) -> str:
        return str(self._path)

    @asynccontextmanager
    async def readings(self) -> AsyncIterator[AsyncIterator[Reading]]:
        async with aclosing(self._follow()) as readings:
            yield readings

    async def _follow(self) -> AsyncGenerator[Reading]:
        read: _State | None = None
        async with aclosing(stirrings(self._path, heartbeat=self._heartbeat, deep=True)) as reasons:
            async for _ in reasons:
                if await self._look() != read:
                    read, reading = await self._read_at_rest()
                    yield reading

    async def _look(self) -> _State:
        return await asyncio.to_thread(_look, self._path)

    async def _read_at_rest(self) -> tuple[_State, Reading]:
        """The state that was read, and what was read."""
        while True:
            state = await self._look()
            await asyncio.sleep(self._rest.total_seconds())
            if await self._look() != state:
                continue
            texts, unreadable = await asyncio.to_thread(read_paths, [self._path])
            if await self._look() == state:  # otherwise some of it may be old and some new
                return state, Reading(texts, unreadable)


def _look(path: Path) -> _State:
    """What tells one state of the source from another: names, and what changes when a file is written or replaced."""
    found: list[tuple[object, ...]] = []
    for name, file in files_of(path):
        try:
            facts = file.stat()
            found.append((name, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
        except OSError as error:
            found.append((name, error.errno))
    return tuple(found)
