"""Control groups: which unit or container a process is in, as the kernel writes it in /proc/<pid>/cgroup (cgroups(7)).

A group's name proves nothing by itself: below a group that was delegated to him, a user makes groups of any name. What
is found here is a claim, and systemd or Docker must confirm it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from citadel.errors import Unavailable

PROC = Path("/proc")

_MAX_BYTES = 64 * 1024
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|scope)")
# The drivers' names: `<id>` below /docker (cgroupfs), `docker-<id>.scope` (systemd); Podman says libpod, Kubernetes
# cri-containerd or nothing but the id. libpod-conmon-<id>.scope is Podman's monitor and not the container.
_CONTAINER = re.compile(r"(?:(?:docker|cri-containerd|libpod|nerdctl|crio)-)?([0-9a-f]{64})(?:\.scope)?")
_OF_A_USER = re.compile(r"user@\d+\.service")


@dataclass(frozen=True, slots=True)
class Group:
    """One line: the group `path` in a hierarchy. `hierarchy` is empty for cgroup v2, else the v1 controllers."""

    hierarchy: str
    path: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit's name, unescaped, and the group that carries it."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container's id (64 hex digits), and the group that carries it in each hierarchy."""

    id: str
    groups: frozenset[Group]


def read(pid: int, proc: Path = PROC) -> tuple[Group, ...]:
    """The groups of a process. Raises Unavailable if it ended, or the text is not as the kernel writes it."""
    try:
        with (proc / str(pid) / "cgroup").open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Unavailable(f"the control groups of process {pid} cannot be read: {error.strerror}") from None
    if len(text) > _MAX_BYTES:
        raise Unavailable(f"process {pid} is in more control groups than can be")
    return parse(text)


def parse(text: str) -> tuple[Group, ...]:
    """Read the text of /proc/<pid>/cgroup. Raises Unavailable."""
    groups = []
    for line in text.split("\n"):
        if not line:
            continue
        parts = line.split(":", 2)
        if len(parts) != 3 or not parts[2].startswith("/"):
            raise Unavailable(f"not a line of /proc/<pid>/cgroup: {line[:120]!r}")
        groups.append(Group(parts[1], parts[2]))
    return tuple(groups)


def systemd_unit(groups: Iterable[Group]) -> Unit | None:
    """The outermost unit that the groups name, in the hierarchy that systemd keeps (v2, or v1's name=systemd).

    Not the innermost: below its own `user@1000.service` a user makes units of any name. It is also what systemd's own
    GetUnitByPID answers.
    """
    for group in groups:
        if group.hierarchy not in ("", "name=systemd"):
            continue
        parts = group.path.split("/")
        for place, part in enumerate(parts):
            name = part.removeprefix("_")  # how systemd keeps a unit's name apart from the kernel's file names
            if _UNIT.fullmatch(name):
                return Unit(name, "/".join(parts[: place + 1]))
    return None


def container(groups: Iterable[Group]) -> Container | None:
    """The container that the groups name, if they name exactly one: of nested ones none is more likely than another.

    Below a user's own service manager nothing is found: what runs there only that user's own Docker or Podman knows,
    and that says what the user likes.
    """
    found = []
    for group in groups:
        parts = group.path.split("/")
        if any(_OF_A_USER.fullmatch(part) for part in parts):
            return None
        named = [(match[1], place) for place, part in enumerate(parts) if (match := _CONTAINER.fullmatch(part))]
        found += [(identity, Group(group.hierarchy, "/".join(parts[: place + 1]))) for identity, place in named]
    if len({identity for identity, _ in found}) != 1:
        return None
    return Container(found[0][0], frozenset(group for _, group in found))
