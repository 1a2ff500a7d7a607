"""Child processes that never outlive the demo: each dies with its parent, and all are ended in order at the end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GRACE_SECONDS = 8.0


def _die_with_parent() -> None:
    """Runs in the child before exec: SIGKILL for it when the demo is gone, however that happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


async def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> str:
    """Run a command to its end and return what it printed. Raises RuntimeError with its message if it failed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {err.decode().strip() or out.decode().strip()}")
    return out.decode()
