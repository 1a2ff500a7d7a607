"""The directory of entities in force: a file that is followed, and kept when something is wrong with it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import structlog

from citadel.authz.doors.authzen.entities import EntityDirectory, read_entities
from citadel.authz.sources.files import read_paths
from citadel.errors import BadFile, CitadelError, Mistake
from citadel.stir import HEARTBEAT, stirrings

_State = tuple[int, int, int, int] | None
log = structlog.get_logger("citadel.authz")


class EntitySource:
    """Keeps the directory what a file says. With a mistake in the file the directory before stays; `fault` says so."""

    def __init__(self, path: Path, *, heartbeat: float = HEARTBEAT) -> None:
        self.path = path
        self._heartbeat = heartbeat
        self.directory: EntityDirectory | None = None
        """None: it could not be read yet."""
        self.fault = ""

    async def run(self) -> None:
        """Read now, and again whenever the file changes, until cancelled."""
        looked_at: _State | str = "never"
        async with aclosing(stirrings(self.path, heartbeat=self._heartbeat)) as reasons:
            async for _ in reasons:
                state = await asyncio.to_thread(_look, self.path)
                if state != looked_at:
                    looked_at = state
                    await self.read()

    async def read(self) -> None:
        """Read now. Raises nothing: `fault` says what is wrong."""
        try:
            self.directory = await asyncio.to_thread(_read, self.path)
        except CitadelError as error:
            fault = f"the entities of {self.path} are not those in force: {error.sentence().splitlines()[0]}"
            if fault != self.fault:
                log.error("the entities are not as their file says", mistakes=error.sentence())
            self.fault = fault
            return
        self.fault = ""
        log.info("entities are in force", entities=len(self.directory), source=str(self.path))


def _look(path: Path) -> _State:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _read(path: Path) -> EntityDirectory:
    texts, unreadable = read_paths([path])
    if unreadable:
        raise BadFile(unreadable)
    if len(texts) != 1:  # a folder
        raise BadFile([Mistake(str(path), "", "it is not a file")])
    return read_entities(texts[0].name, texts[0].content)
