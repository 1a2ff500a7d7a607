"""The directory of entities in force: a file or the store, followed, and kept when something is wrong with it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Protocol

import structlog

from citadel.authz.entities.directory import EntityDirectory
from citadel.authz.entities.file import read_entities
from citadel.authz.entities.ports import EntityStore
from citadel.authz.sources.files import read_paths
from citadel.changes import Changes, Topic
from citadel.errors import BadFile, CitadelError, Mistake
from citadel.stir import HEARTBEAT, stirrings

_State = tuple[int, int, int, int] | None
_RETRY = 1.0  # seconds
_NOTHING_APPLIED = "no entities were put into the store yet; do: citadel entity apply -f …"
log = structlog.get_logger("citadel.authz")


class EntitySource(Protocol):
    """Where the directory comes from. Implementations: FileEntities, StoreEntities."""

    @property
    def directory(self) -> EntityDirectory | None:
        """Those in force; None: they could not be read yet, or there were never any."""

    @property
    def fault(self) -> str:
        """Why those in force are not as the source says; empty: they are."""

    async def run(self) -> None:
        """Follow the source, until cancelled."""

    async def read(self) -> None:
        """Read now. Raises nothing: `fault` says what is wrong."""


class FileEntities:
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


class StoreEntities:
    """Keeps the directory what the store says. While the store does not answer, the directory before stays.

    Before anything was put into the store there is none: what it would have said may be what denies.
    """

    def __init__(self, store: EntityStore, changes: Changes, *, heartbeat: float = 30.0) -> None:
        """`heartbeat`: so many seconds may pass until the store is asked anyway; announcements come first."""
        self._store = store
        self._changes = changes
        self._heartbeat = heartbeat
        self._number = 0
        self.directory: EntityDirectory | None = None
        self.fault = ""

    async def run(self) -> None:
        async with self._changes.subscribe([Topic.ENTITIES]) as news:
            while True:
                await self.read()
                with suppress(TimeoutError):
                    await asyncio.wait_for(anext(news), _RETRY if self.fault else self._heartbeat)

    async def read(self) -> None:
        try:
            if self.directory is not None and await self._store.number() == self._number:
                self.fault = ""
                return
            found = await self._store.current()
        except CitadelError as error:
            fault = f"the entities of the store cannot be read: {error.message}"
            if fault != self.fault:
                log.error("the entities in force may not be those of the store", why=error.message)
            self.fault = fault
            return
        if not found.number:
            self.directory, self.fault = None, _NOTHING_APPLIED
            return
        self.directory, self._number, self.fault = found.directory, found.number, ""
        log.info("entities are in force", entities=len(found.directory), source=f"the store, v{found.number}")


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
