"""One worker: heard of by its reports, ended where it is silent or grows too large, and started again, ever later."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from citadel.errors import InvalidInput
from citadel.server.workers.reports import MOST_BYTES, Report

FIRST_REPORT_SECONDS = 60.0
SILENT_SECONDS = 10.0
"""It reports each second (reports.HEARTBEAT_SECONDS)."""
BEHIND_SECONDS = 30.0
"""So long a worker may take to decide by what is in force: a set of many thousand policies takes it seconds."""
_ONE_MORE_SECOND = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY_SECONDS = 60.0  # who ran for so long has got over it
_GRACE_SECONDS = 3.0
log = structlog.get_logger("citadel.workers")

Start = Callable[[socket.socket], Coroutine[Any, Any, Process]]
"""Starts the process with its end of the link, which it inherits."""


class WorkerProcess:
    """Keep `keep` going. `heard` is told each report, `over` why a process of it ended: in a word, for metrics."""

    def __init__(
        self,
        name: str,
        start: Start,
        heard: Callable[[Report], None],
        over: Callable[[str], None],
        *,
        most_memory: int,
    ) -> None:
        self.name = name
        self.last = Report()
        """What it told last; of a process that has ended, nothing."""
        self.fault = ""
        """Why it ended; empty: it has been well for a while."""
        self._start = start
        self._heard = heard
        self._over = over
        self._most_memory = most_memory

    async def keep(self) -> None:
        """Until cancelled; then the process has ended, and all that it told is heard."""
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            forgetting = loop.call_later(_STEADY_SECONDS, self._forget)
            try:
                word, why = await self._lived()
            finally:
                forgetting.cancel()
                self.last = Report()
            if loop.time() - began >= _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            self.fault = why
            self._over(word)
            log.error("a worker is started again", worker=self.name, why=why)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _forget(self) -> None:
        self.fault = ""

    async def _lived(self) -> tuple[str, str]:
        """One process, from its start to its end; why it ended, in a word and in a sentence."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_BYTES)
            try:
                process = await _started(self._start(theirs))
            except BaseException as error:
                writer.close()
                if isinstance(error, OSError):
                    return "ended", f"it could not be started: {error.strerror}"
                raise
        try:
            return await self._followed(reader, process)
        except asyncio.CancelledError:
            process.terminate()
            with suppress(TimeoutError, InvalidInput, ValueError, OSError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    while line := await reader.readline():
                        self._take(line)
                    await process.wait()
            raise
        finally:
            writer.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _followed(self, reader: asyncio.StreamReader, process: Process) -> tuple[str, str]:
        wait = FIRST_REPORT_SECONDS
        while True:
            line = await _line(reader, wait)
            if line is None:
                return "silent", f"it was not heard of for {wait:.0f} s"
            if not line:
                return await _how_it_ended(process)
            try:
                self._take(line)
            except InvalidInput as error:
                return "unreadable", error.message
            if (size := _resident(process.pid)) > self._most_memory:
                return "too-large", f"it took {size >> 20} MiB of memory, and may take {self._most_memory >> 20}"
            wait = SILENT_SECONDS

    def _take(self, line: bytes) -> None:
        """Raises InvalidInput."""
        report = Report.parse(line)
        self._heard(report)
        self.last = report


class Behind:
    """Who decides by other policies, or knows other registrations, than are in force; and since when."""

    def __init__(self) -> None:
        self.fault = ""
        """Of somebody who has been behind for longer than BEHIND_SECONDS; empty: nobody has."""
        self._since: dict[str, float] = {}

    def look(self, workers: Sequence[WorkerProcess], version: str, callers: int, now: float) -> None:
        behind = {
            one.name: "policies" if one.last.version != version else "registrations"
            for one in workers
            if one.last.answers and (one.last.version, one.last.callers) != (version, callers)
        }
        self._since = {name: self._since.get(name, now) for name in behind}
        late = [
            f"{name} has decided by other {behind[name]} than those in force for {now - since:.0f} s"
            for name, since in self._since.items()
            if now - since > BEHIND_SECONDS
        ]
        self.fault = "; ".join(late)


async def _started(starting: Coroutine[Any, Any, Process]) -> Process:
    """If we are cancelled meanwhile, it is ended: it cannot be called back, and would be nobody's."""
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(OSError):
            process = await task
            process.kill()
            await process.wait()
        raise


async def _line(reader: asyncio.StreamReader, seconds: float) -> bytes | None:
    """Empty: the other end is closed. None: nothing came, not even in a second more: it was not we who hung."""
    for wait in (seconds, _ONE_MORE_SECOND):
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                try:
                    return await reader.readline()
                except ValueError:
                    return b"longer than a report may be"
                except ConnectionError:
                    return b""
    return None


async def _how_it_ended(process: Process) -> tuple[str, str]:
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            return "ended", f"it ended with {await process.wait()}"
    return "silent", "it closed its link to us and did not end"


def _resident(pid: int) -> int:
    """Bytes; 0: it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
