"""Users and groups of a running process, as the kernel writes them in /proc/<pid>/status (proc_pid_status(5))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_MAX_BYTES = 1 << 20  # with all 65,536 supplementary groups that a process may have


@dataclass(frozen=True, slots=True)
class Credentials:
    """Effective user and group, and the supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def credentials(pid: int, proc: Path = PROC) -> Credentials | None:
    """None if there is no such process.

    The first line holds the name that the process gave itself. Of what may be in that the kernel writes out only line
    feeds, so a carriage return, say, must not end a line: whatever came behind it would be the process's own claim.
    """
    try:
        with (proc / str(pid) / "status").open("rb") as file:
            _name, *lines = file.read(_MAX_BYTES).split(b"\n")
    except OSError:
        return None
    found = {key: rest.split() for key, _, rest in (line.partition(b":") for line in lines)}
    try:
        return Credentials(int(found[b"Uid"][1]), int(found[b"Gid"][1]), tuple(map(int, found[b"Groups"])))
    except (KeyError, IndexError, ValueError):  # not as the kernel writes it: then it says nothing
        return None
