"""Folders: who else could put something of theirs in the place of what is ours."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from citadel.errors import UnsafePermissions

_MOST_LINKS = 40  # as the kernel has it (path_resolution(7))
_MOST_LOOKED_AT = 1000  # of what is in a folder
_ACCESS_LIST = "system.posix_acl_access"  # acl(5)


@dataclass(frozen=True, slots=True)
class Weakness:
    """`path`: the folder, or symbolic link, that somebody else may change. `why`: how, as a sentence without an end."""

    path: Path
    why: str
    mend: str


def weaknesses(folder: Path, uid: int) -> list[Weakness]:
    """All that lets anybody but root and `uid` replace `folder`, or what is in it.

    Each folder on the way there, and each symbolic link, must belong to one of the two, and only they may write to it.
    A folder on the way may be like /tmp (sticky): others write to it, and cannot touch what is ours. A group that is
    `uid`'s alone, as Debian gives each user one, may write. What is not there yet has no weakness.
    """
    found: dict[Path, Weakness] = {}
    steps = list(_way_to(folder))
    for place, (path, status) in enumerate(steps):
        weakness = _owned_by_others(path, status, uid) or (
            None
            if stat.S_ISLNK(status.st_mode)
            else _written_by_others(path, status, uid, is_last=place == len(steps) - 1)
        )
        if weakness is not None:
            found.setdefault(path, weakness)
    return list(found.values())


def refuse_weak(folders: dict[str, Path]) -> None:
    """Raise UnsafePermissions with all weaknesses of `folders` (what each is: where), for our own user."""
    found = {weakness.path: weakness for path in folders.values() for weakness in weaknesses(path, os.geteuid())}
    if not found:
        return
    raise UnsafePermissions(
        "others could put something of theirs in the place of Citadel's files: "
        + ", ".join(f"{weakness.path} {weakness.why}" for weakness in found.values()),
        mend="; ".join(dict.fromkeys(weakness.mend for weakness in found.values())),
    )


def open_to_everybody(path: Path) -> list[Weakness]:
    """All that lets everybody replace `path`, a file or a folder, or what is in it.

    Who else may write there is whoever was given it: what is read from others (policies, say) is often written by
    another user, or a group. Of a folder so many files and folders in it are looked at. What is on a mount that is
    read-only is written by nobody there: so Kubernetes mounts volumes of ConfigMaps and Secrets, whose mode is 0777.
    """
    steps = list(_way_to(path))
    found = [
        weakness
        for place, (step, status) in enumerate(steps)
        if (weakness := _open(step, status, passed=place < len(steps) - 1)) is not None
    ]
    if not found:
        found = [weakness for step, status in _inside(path) if (weakness := _open(step, status)) is not None]
    return found


def _inside(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    seen = 0
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen += 1
            if seen > _MOST_LOOKED_AT:
                return
            path = Path(root, name)
            try:
                yield path, path.lstat()
            except OSError:  # it has just gone
                continue


def _open(path: Path, status: os.stat_result, *, passed: bool = False) -> Weakness | None:
    mode = status.st_mode
    if stat.S_ISLNK(mode) or not mode & stat.S_IWOTH or (mode & stat.S_ISVTX and passed) or _is_read_only(path):
        return None
    return Weakness(path, f"may be written to by everybody (mode {stat.S_IMODE(mode):04o})", f"run: chmod o-w {path}")


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _way_to(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each folder and link that the kernel passes on the way to `folder`, that one included, as far as they exist."""
    at, left, links = Path("/"), list(reversed(folder.absolute().parts[1:])), 0
    yield at, at.stat()
    while left:
        part = left.pop()
        if part == "..":
            at = at.parent
            continue
        path = at / part
        try:
            status = path.lstat()
        except OSError:  # not there, or not for us to see: who uses it finds out
            return
        yield path, status
        if not stat.S_ISLNK(status.st_mode):
            at = path
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        target = path.readlink()
        left.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        at = Path("/") if target.is_absolute() else at


def _owned_by_others(path: Path, status: os.stat_result, uid: int) -> Weakness | None:
    if status.st_uid in (0, uid) or _is_outside(status.st_uid):
        return None
    what = "is a symbolic link of" if stat.S_ISLNK(status.st_mode) else "belongs to"
    return Weakness(path, f"{what} {user_name(status.st_uid)}", f"run: chown -h {user_name(uid)} {path}")


def _written_by_others(path: Path, status: os.stat_result, uid: int, *, is_last: bool) -> Weakness | None:
    mode = status.st_mode
    if mode & stat.S_ISVTX and not is_last:
        return None
    if mode & stat.S_IWOTH:
        return Weakness(
            path, f"may be written to by everybody (mode {stat.S_IMODE(mode):04o})", f"run: chmod go-w {path}"
        )
    if not mode & stat.S_IWGRP:
        return None
    if _has_access_list(path):
        return Weakness(
            path, "may be written to by others, by its access list", f"run: setfacl -b {path}; chmod go-w {path}"
        )
    if _is_alone_in(status.st_gid, uid):
        return None
    return Weakness(path, f"may be written to by the group {_group_name(status.st_gid)}", f"run: chmod g-w {path}")


def _is_alone_in(gid: int, uid: int) -> bool:
    """Whether it is root's group, or the user's own: of the same name, with nobody else in it."""
    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    others = {one.pw_uid for one in pwd.getpwall() if one.pw_gid == gid} - {0, uid}
    return group.gr_name == user.pw_name and not others and set(group.gr_mem) <= {user.pw_name, "root"}


def _has_access_list(path: Path) -> bool:
    """Then the group's bits say what the list allows at most, to whomever."""
    try:
        os.getxattr(path, _ACCESS_LIST)
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.ENOTSUP)
    return True


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _is_outside(uid: int) -> bool:
    """Whether this is how the kernel shows an owner from outside of our user namespace (user_namespaces(7)): nobody
    inside is that user."""
    try:
        if uid != int(Path("/proc/sys/kernel/overflowuid").read_text()):
            return False
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except (OSError, ValueError):
        return False
    return not any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges)
