"""Room for work in hand, which only we may enter: gone on leaving, and after `kill -9` cleared by the next run."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from citadel.errors import PermissionDenied

_PREFIX = ".citadel-backup-"
_YOUNG_SECONDS = 60.0  # it may not be locked yet


@contextmanager
def folder(within: Path | None, *, mend: str) -> Iterator[Path]:
    """A folder in `within` (None: where temporary files go). Raises PermissionDenied."""
    within = within or Path(tempfile.gettempdir())
    _clear(within)
    try:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))
    except OSError as error:
        raise PermissionDenied(f"{within} cannot be written to: {error.strerror}", mend=mend) from error
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(handle)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def file_beside(target: Path, *, mend: str) -> Iterator[Path]:
    """A file of mode 0600 in the folder of `target`. Raises PermissionDenied."""
    _clear(target.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=target.parent)
    except OSError as error:
        raise PermissionDenied(f"{target.parent} cannot be written to: {error.strerror}", mend=mend) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def _clear(within: Path) -> None:
    """What is ours, and nobody holds any more. Others may have put things there that look like it."""
    with suppress(OSError):
        for path in within.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                _clear_one(path)


def _clear_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        facts = os.fstat(handle)
        if facts.st_uid != os.geteuid() or time.time() - facts.st_mtime < _YOUNG_SECONDS:
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(facts.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(facts.st_mode):
            path.unlink()
    finally:
        os.close(handle)


__all__ = ["file_beside", "folder"]
