"""A /proc tree that a test writes, for what only root could bring about in the kernel's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from citadel.workload.peer import Peer

_STAT_FIELDS_BEHIND_NAME = 50


class FakeProc:
    """Contract: proc(5), as far as the attestors read it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(
        self, pid: int, cgroup: str = "0::/\n", *, start: int = 100, groups: tuple[int, ...] = (), name: str = "a) b"
    ) -> Peer:
        """Write a process down, and give the peer that it would be. That peer has no pidfd."""
        folder = self.root / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup").write_text(cgroup)
        ids = "1000\t1000\t1000\t1000"
        (folder / "status").write_text(
            f"Name:\t{name}\nUid:\t{ids}\nGid:\t{ids}\nGroups:\t{' '.join(map(str, groups))} \n"
        )
        fields = ["0"] * _STAT_FIELDS_BEHIND_NAME
        fields[0], fields[19] = "S", str(start)
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        return Peer(pid, 1000, 1000, -1, start)

    def moved(self, peer: Peer, cgroup: str) -> Peer:
        (self.root / str(peer.pid) / "cgroup").write_text(cgroup)
        return replace(peer)
