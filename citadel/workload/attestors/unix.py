"""unix: selectors from the kernel: user, groups, and (if configured) the program's path and hash. SPIRE's names."""

from __future__ import annotations

import asyncio
import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path

from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

_CHUNK = 1 << 20
_CACHE = 1024
_Facts = tuple[int, int, int, int, int]


class UnixAttestor:
    """`discover_path`: also `unix:path` and, for programs up to `max_hash_size` bytes, `unix:sha256`."""

    name = "unix"

    def __init__(self, *, discover_path: bool, max_hash_size: int) -> None:
        self._discover_path = discover_path
        self._max_hash_size = max_hash_size
        self._hashes: dict[_Facts, str] = {}

    async def selectors(self, peer: Peer) -> list[Selector]:
        return await asyncio.to_thread(self._look, peer)  # user databases may be on the network

    def _look(self, peer: Peer) -> list[Selector]:
        found = [f"uid:{peer.uid}", f"gid:{peer.gid}"]
        found += [f"user:{name}" for name in _user(peer.uid)] + [f"group:{name}" for name in _group(peer.gid)]
        for gid in _supplementary(peer.pid):
            found.append(f"supplementary_gid:{gid}")
            found += [f"supplementary_group:{name}" for name in _group(gid)]
        if self._discover_path:
            found += self._program(peer.pid)
        return [Selector.of(self.name, value) for value in found]

    def _program(self, pid: int) -> list[str]:
        link = f"/proc/{pid}/exe"
        path = str(Path(link).readlink())
        handle = os.open(link, os.O_RDONLY | os.O_CLOEXEC)  # the very file that runs, wherever its path leads now
        try:
            facts = os.fstat(handle)
            found = [f"path:{path}"] if _is_at(path, facts) else []
            if stat.S_ISREG(facts.st_mode) and 0 < facts.st_size <= self._max_hash_size:
                found.append(f"sha256:{self._hash(handle, facts)}")
            return found
        finally:
            os.close(handle)

    def _hash(self, handle: int, facts: os.stat_result) -> str:
        key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        known = self._hashes.get(key)
        if known is None:
            digest = hashlib.sha256()
            while chunk := os.read(handle, _CHUNK):
                digest.update(chunk)
            known = digest.hexdigest()
            if len(self._hashes) >= _CACHE:
                self._hashes.clear()
            self._hashes[key] = known
        return known


def _is_at(path: str, facts: os.stat_result) -> bool:
    """Whether the program really is at `path`: in a mount namespace of its own anybody can run a file of his under any
    path, and the kernel would name that."""
    try:
        return os.path.samestat(Path(path).stat(), facts)
    except OSError:  # deleted, or only there in the process's own view
        return False


def _user(uid: int) -> list[str]:
    try:
        return [pwd.getpwuid(uid).pw_name]
    except KeyError:  # a user that only has a number
        return []


def _group(gid: int) -> list[str]:
    try:
        return [grp.getgrgid(gid).gr_name]
    except KeyError:
        return []


def _supplementary(pid: int) -> list[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Groups:"):
            return [int(gid) for gid in line.split()[1:]]
    return []
