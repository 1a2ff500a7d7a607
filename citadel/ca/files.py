"""Reads files that the operator keeps for us: bounded, regular, and closed to others where they hold a secret."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from citadel.errors import BadFile, CitadelError, Mistake, NotFound, PermissionDenied, UnsafePermissions

SECRET_BYTES = 64 * 1024
PUBLIC_BYTES = 1024 * 1024

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe in its place must not hold us up
_GROUP_READS = stat.S_IRGRP
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path, *, what: str = "key file", links: bool = False, group_reads: bool = False) -> bytes:
    """The content of a file that holds a secret: ours or root's; nobody else may read it, or put another in its place.

    `links`: symbolic links are followed (Kubernetes mounts secrets so); else they are refused. `group_reads`: its group
    may read it (systemd's credentials show an access list in these bits).
    Raises NotFound, PermissionDenied, UnsafePermissions, BadFile.
    """
    target = _resolve(path, what) if links else path
    _check_parent(target, path)
    return _read(target, path, what, SECRET_BYTES, secret=True, group_reads=group_reads)


def read_public(path: Path, *, what: str = "file", limit: int = PUBLIC_BYTES) -> bytes:
    """The content of a file that holds no secret; links are followed. Raises NotFound, PermissionDenied, BadFile."""
    return _read(_resolve(path, what), path, what, limit, secret=False, group_reads=True)


def _resolve(path: Path, what: str) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle (Python 3.11)
        raise _unreadable(error, path, what) from error


def _check_parent(target: Path, path: Path) -> None:
    try:
        mode = target.parent.stat().st_mode
    except OSError:
        return  # then the file cannot be opened either, and that says why
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UnsafePermissions(
            f"everybody may put another file in the place of {path}", mend=f"run: chmod o-w {target.parent}"
        )


def _read(target: Path, path: Path, what: str, limit: int, *, secret: bool, group_reads: bool) -> bytes:
    try:
        handle = os.open(target, _FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        raise _unreadable(error, path, what) from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise BadFile([Mistake(str(path), "", "it is not a regular file")])
        if secret:
            _check_owner(facts, path, group_reads=group_reads)
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(error, path, what) from error
    finally:
        os.close(handle)
    if len(content) > limit:
        raise BadFile([Mistake(str(path), "", f"it is larger than {limit} bytes")])
    return content


def _check_owner(facts: os.stat_result, path: Path, *, group_reads: bool) -> None:
    if facts.st_uid not in (0, os.geteuid()):
        raise UnsafePermissions(f"{path} belongs to uid {facts.st_uid}", mend=f"run: chown {os.geteuid()} {path}")
    if facts.st_mode & (_OTHERS & ~_GROUP_READS if group_reads else _OTHERS):
        raise UnsafePermissions(f"others may read or write {path}", mend=f"run: chmod 600 {path}")


def _unreadable(error: OSError | RuntimeError, path: Path, what: str) -> CitadelError:
    number = error.errno if isinstance(error, OSError) else errno.ELOOP
    if number in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"there is no {what} {path}", mend="put it back, or correct the path")
    if number == errno.ELOOP:
        return UnsafePermissions(f"{path} is a symbolic link", mend="give the path of the file itself")
    if number in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"{path} cannot be read by uid {os.geteuid()}", mend="run as the user who owns it, or change its owner"
        )
    text = os.strerror(number) if number else str(error)
    return BadFile([Mistake(str(path), "", f"it cannot be read: {text}")])
