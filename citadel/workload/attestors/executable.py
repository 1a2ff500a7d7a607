"""Executable attestor: the path and hash of the program that a process runs (`unix:path`, `unix:sha256`).

Off unless configured, as SPIRE's `discover_workload_path`: it needs the right to read /proc/<pid>/exe, and hashing
costs. A program in an interpreted language is its interpreter here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import structlog

from citadel.errors import BadSelector, Unavailable
from citadel.registry.selectors import Selector
from citadel.workload.attestors.cgroup import PROC

TYPE = "unix"
DELETED = " (deleted)"  # proc_pid_exe(5): appended by the kernel when the name is gone

# What a file's content is known by: device, inode, size, and both times; only the kernel sets the change time.
FileKey = tuple[int, int, int, int, int]
_log = structlog.get_logger("citadel.workload")


class ExecutableAttestor:
    """Selectors `unix:path` and `unix:sha256` (SPIRE's names).

    The path is told only if it is true where Citadel runs: anybody may make a mount namespace in which a file of his
    own has a famous name. So either that name leads to the same file here, or the process shares our mounts and the
    file has been replaced since it was started.
    """

    name = "unix-executable"

    def __init__(self, *, size_limit: int = 0, remember: int = 1024, at_once: int = 2, proc: Path = PROC) -> None:
        """`size_limit` in bytes: programs above it are not hashed; 0: no limit; negative: nothing is hashed.

        `remember` hashes are kept, `at_once` are made at the same time.
        """
        self._size_limit = size_limit
        self._remember = remember
        self._slots = asyncio.Semaphore(at_once)
        self._proc = proc
        self._known: OrderedDict[FileKey, str] = OrderedDict()
        self._running: dict[FileKey, asyncio.Task[str | None]] = {}

    async def aclose(self) -> None:
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def attest(self, pid: int) -> frozenset[Selector]:
        """What program process `pid` runs. Raises Unavailable if that cannot be seen."""
        fd = self._open(pid)
        try:
            # The name and the content are both asked of one open file: the process may start another program meanwhile.
            path = self._true_path(fd, pid)
            digest = await self._digest(fd)
        except OSError as error:
            raise Unavailable(f"cannot look at the program of process {pid}: {error.strerror}") from None
        finally:
            os.close(fd)
        selectors = set()
        with suppress(BadSelector):  # a name that no entry can ask for
            if path is not None:
                selectors.add(Selector.of(TYPE, f"path:{path}"))
        if digest is not None:
            selectors.add(Selector.of(TYPE, f"sha256:{digest}"))
        return frozenset(selectors)

    def _open(self, pid: int) -> int:
        try:
            return os.open(self._proc / str(pid) / "exe", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(
                f"cannot read the program of process {pid}: {error.strerror}",
                mend="run Citadel as root or as the workload's user, or switch discover_workload_path off",
            ) from None

    def _true_path(self, fd: int, pid: int) -> str | None:
        path = str(Path(f"/proc/self/fd/{fd}").readlink())
        running = os.fstat(fd)
        with suppress(OSError, ValueError):
            if os.path.samestat(Path(path).stat(), running):
                return path
        gone = running.st_nlink == 0 and path.endswith(DELETED)
        return path.removesuffix(DELETED) if gone and self._shares_our_mounts(pid) else None

    def _shares_our_mounts(self, pid: int) -> bool:
        ours, theirs = Path("/proc/self/ns/mnt"), self._proc / str(pid) / "ns" / "mnt"
        return ours.readlink() == theirs.readlink()

    async def _digest(self, fd: int) -> str | None:
        key = _key(fd)
        if self._size_limit < 0 or 0 < self._size_limit < key[2]:
            _log.debug("a program is above the limit and not hashed", bytes=key[2], limit=self._size_limit)
            return None
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._make(os.dup(fd), key), name="hash of a program")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Shielded: a caller that gives up leaves the hash to be finished for the next one.
        return await asyncio.shield(task)

    async def _make(self, fd: int, key: FileKey) -> str | None:
        """The hash of the open file, or None if it changed while it was read. Closes `fd`."""
        with os.fdopen(fd, "rb", buffering=0) as file:
            async with self._slots:
                file.seek(0)
                digest = await asyncio.to_thread(lambda: hashlib.file_digest(file, "sha256").hexdigest())
                if _key(fd) != key:
                    return None
        self._known[key] = digest
        if len(self._known) > self._remember:
            self._known.popitem(last=False)
        return digest


def _key(fd: int) -> FileKey:
    stat = os.fstat(fd)
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
