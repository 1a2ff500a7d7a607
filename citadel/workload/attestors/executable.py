"""Executables: the path and the hash of the program that a process runs, by /proc/<pid>/exe (proc(5))."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections import Counter, OrderedDict
from pathlib import Path

from citadel.errors import ResourceExhausted, Unavailable
from citadel.workload.attestors.answers import Answers, in_thread
from citadel.workload.attestors.cgroup import PROC
from citadel.workload.peer import Peer

_CHUNK = 1 << 20
_REMEMBERED = 1024
_THREADS_PER_UID = 2
_LOOKS_PER_UID = 256
_SETTLED_NS = 2_000_000_000  # older changes than this cannot share their time stamp with one that is still to come
_Facts = tuple[int, int, int, int, int]


class Executables:
    """Looks at programs, in threads, so that neither a large file nor a hanging file system holds up anybody else.

    A hash is remembered by device, inode, size, mtime and ctime; the last of them no user can set.
    """

    def __init__(self, *, size_limit: int, proc: Path = PROC) -> None:
        """`size_limit` in bytes: larger programs get no hash; 0: none gets one."""
        self._size_limit = size_limit
        self._proc = proc
        self._hashes: OrderedDict[_Facts, str] = OrderedDict()
        self._looking: Counter[int] = Counter()
        self._threads: dict[int, asyncio.Semaphore] = {}
        self._looks: Answers[tuple[int, int, int], list[str]] = Answers(self._look, seconds=0, most=1 << 16)

    async def look(self, peer: Peer) -> list[str]:
        """`path:<path>` and `sha256:<hex>`, as far as they are certain. Raises Unavailable if the program cannot be
        read, ResourceExhausted if too many of the same user's programs are being looked at."""
        return await self._looks.get((peer.pid, peer.start_time, peer.uid))

    async def _look(self, process: tuple[int, int, int]) -> list[str]:
        pid, _, uid = process
        if self._looking[uid] >= _LOOKS_PER_UID:  # a user whose programs lie on a file system that hangs, say
            raise ResourceExhausted(f"{_LOOKS_PER_UID} programs of uid {uid} are being looked at already")
        self._looking[uid] += 1
        try:
            async with self._threads.setdefault(uid, asyncio.Semaphore(_THREADS_PER_UID)):
                return await in_thread(lambda: self._look_at(pid))
        finally:
            self._looking[uid] -= 1
            if not self._looking[uid]:
                del self._looking[uid], self._threads[uid]

    def _look_at(self, pid: int) -> list[str]:
        link = self._proc / str(pid) / "exe"
        try:
            path = os.fsdecode(link.readlink())
            handle = os.open(link, os.O_RDONLY | os.O_CLOEXEC)  # the very file that runs, wherever its path leads now
        except OSError as error:
            raise Unavailable(f"the program of process {pid} cannot be read: {error.strerror}") from None
        try:
            facts = os.fstat(handle)
            found = [f"path:{path}"] if _is_at(path, facts) else []
            if stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= self._size_limit:
                digest = self._hash(handle, facts)
                found += [f"sha256:{digest}"] if digest else []
            return found
        except OSError as error:
            raise Unavailable(f"the program of process {pid} cannot be read: {error.strerror}") from None
        finally:
            os.close(handle)

    def _hash(self, handle: int, before: os.stat_result) -> str | None:
        """None if the file changed while it was read."""
        key = _facts(before)
        if (known := self._hashes.get(key)) is not None:
            return known
        digest, size = hashlib.sha256(), 0
        while chunk := os.read(handle, _CHUNK):
            size += len(chunk)
            if size > before.st_size:
                return None
            digest.update(chunk)
        if _facts(os.fstat(handle)) != key:
            return None
        if time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _SETTLED_NS:
            self._hashes[key] = digest.hexdigest()
            while len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)
        return digest.hexdigest()


def _facts(found: os.stat_result) -> _Facts:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_at(path: str, facts: os.stat_result) -> bool:
    """Whether the program really is at `path`: in a mount namespace of its own anybody can run a file of his under any
    path, and the kernel would name that."""
    try:
        return os.path.samestat(Path(path).stat(), facts)
    except (OSError, ValueError):  # deleted, or only there in the process's own view
        return False
