"""Control groups of a process: what /proc/<pid>/cgroup says, and the systemd unit and container that follow from it.

A path is trusted from its root downwards only. Below a delegated subtree (a user's own systemd, a container with its
own cgroups) anybody may make a group with any name, so the first name that fits is the one, never a later one, and
both attestors ask the owner of that name whether the group is really its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from citadel.errors import Unavailable

PROC = Path("/proc")
MAX_BYTES = 64 * 1024

# systemd.unit(5): letters, digits and ":-_.\", at most 255 characters, and the kinds that hold processes.
_UNIT = re.compile(r"(?!\.)[A-Za-z0-9:_.\\@-]{1,247}\.(?:service|scope|socket|mount|swap)")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_DOCKER_SCOPE = re.compile(r"docker-([0-9a-f]{64})\.scope")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One line of /proc/<pid>/cgroup (cgroups(7)). `controllers` is empty for the unified hierarchy."""

    hierarchy: int
    controllers: frozenset[str]
    path: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A named group that a process is in: the name, and the path of the group that bears it."""

    name: str
    path: str


def parse(text: str) -> tuple[Cgroup, ...]:
    """Read the file's text. Lines that are none are skipped, and so are paths outside of our own cgroup namespace."""
    groups = []
    for line in text.splitlines():
        number, first, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if not (first and second and number.isascii() and number.isdigit() and path.startswith("/")):
            continue
        if ".." in path.split("/"):  # cgroup_namespaces(7): the group lies beside or above our root, names say nothing
            continue
        names = frozenset(name for name in controllers.split(",") if name)
        groups.append(Cgroup(int(number), names, path))
    return tuple(groups)


def read(pid: int, proc: Path = PROC) -> tuple[Cgroup, ...]:
    """The groups of a process. Raises Unavailable if it ended or may not be looked at."""
    try:
        with (proc / str(pid) / "cgroup").open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read the control groups of process {pid}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise Unavailable(f"the control groups of process {pid} take more than {MAX_BYTES} bytes")
    return parse(raw.decode("utf-8", "surrogateescape"))


def systemd_unit(groups: Iterable[Cgroup]) -> Membership | None:
    """The system unit that a process belongs to, if any: the first name below the slices."""
    group = _systemd_hierarchy(tuple(groups))
    if group is None:
        return None
    walked = ""
    for part in group.path.strip("/").split("/"):
        walked += f"/{part}"
        name = part.removeprefix("_")  # systemd escapes names that look like the kernel's own files
        if name.endswith(".slice"):
            continue
        return Membership(name, walked) if _UNIT.fullmatch(name) else None
    return None


def docker_container(groups: Iterable[Cgroup]) -> Membership | None:
    """The Docker container that a process belongs to, if any: the outermost one, which is the one on this machine.

    Hierarchies that name different containers make none: nobody is guessed at.
    """
    found = [member for group in groups if (member := _container_in(group.path)) is not None]
    return found[0] if len({member.name for member in found}) == 1 else None


def is_within(groups: Iterable[Cgroup], path: str) -> bool:
    """Whether one of the groups is the one at `path`, or lies below it."""
    return any(group.path == path or group.path.startswith(f"{path}/") for group in groups)


def _systemd_hierarchy(groups: tuple[Cgroup, ...]) -> Cgroup | None:
    named = [group for group in groups if "name=systemd" in group.controllers]
    unified = [group for group in groups if group.hierarchy == 0 and not group.controllers]
    return next((group for group in (*named, *unified) if group.path != "/"), None)


def _container_in(path: str) -> Membership | None:
    walked = ""
    parts = path.strip("/").split("/")
    for before, part in zip(["", *parts], parts, strict=False):
        walked += f"/{part}"
        scope = _DOCKER_SCOPE.fullmatch(part)  # the systemd driver: docker-<id>.scope
        if scope is not None:
            return Membership(scope[1], walked)
        if before == "docker" and _CONTAINER_ID.fullmatch(part):  # the cgroupfs driver: docker/<id>
            return Membership(part, walked)
    return None
