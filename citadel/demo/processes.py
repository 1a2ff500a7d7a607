"""Child processes that never outlive the demo: each dies with its parent, and all are ended in order at the end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GRACE_SECONDS = 8.0
_CITADEL = f"""\
import ctypes, signal
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
from citadel.cli import main
main()"""


def _die_with_parent() -> None:
    """Runs in the child before exec: SIGKILL for it when the demo is gone, however that happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def citadel(*arguments: str | Path) -> list[str | Path]:
    """The `citadel` that this demo belongs to, whatever PATH says."""
    return [sys.executable, "-c", _CITADEL, *arguments]


class Failed(Exception):
    """The demo cannot go on. The message is a sentence for its user."""


class Processes:
    """Owns the children. `end` stops them, last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, asyncio.subprocess.Process]] = []

    async def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Start a child in a session of its own (Ctrl-C is for the demo), its output going to `<name>.log`."""
        with open(self._logs / f"{name}.log", "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._running.append((name, process))

    def died(self) -> str | None:
        """The name of a child that ended by itself, if one has."""
        return next((name for name, process in self._running if process.returncode is not None), None)

    def pid(self, name: str) -> int:
        return next(process.pid for label, process in self._running if label == name)

    async def end(self) -> None:
        for _, process in reversed(self._running):
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()
        self._running.clear()


async def run(arguments: Sequence[str | Path]) -> str:
    """Run a command of Citadel's to its end and return what it printed. Raises Failed with its message."""
    return "\n".join([line async for line in lines(arguments)])


async def lines(arguments: Sequence[str | Path]) -> AsyncGenerator[str, None]:
    """What a command of Citadel's prints, line by line as it does. Raises Failed with its message if it fails."""
    process = await asyncio.create_subprocess_exec(
        *map(str, citadel(*arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # without preexec_fn, hence without fork(): gRPC's threads may run by now, and a child would inherit their locks
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async for line in process.stdout:
            yield line.decode().rstrip("\n")
        complaint = (await process.stderr.read()).decode().strip()
        if await process.wait():
            raise Failed(f"citadel {' '.join(map(str, arguments))}: {complaint}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
