"""The file of a SQLite database: one process holds its folder, nobody else reads it, and it is whole when we begin."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from pathlib import Path

from citadel.durable import sync_folder
from citadel.errors import FailedPrecondition, Unavailable, UnsafePermissions
from citadel.store.faults import our_errors, translate

_CHECKED_AT_START = 64 << 20  # bytes; SQLite reads the whole file for that, and a larger one takes too long
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class DirectoryLock:
    """Holds a SQLite directory for this process. Raises FailedPrecondition, naming the holder, if it is taken."""

    def __init__(self, path: Path) -> None:
        with our_errors(str(path)):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with our_errors(str(path)):
                self._take(path)
        except BaseException:
            os.close(self._handle)
            raise

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise FailedPrecondition(
                f"another Citadel (pid {holder}) uses {path.parent} already",
                mend="stop that one first; several servers share a PostgreSQL, not a SQLite",
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._handle)


class SameFile:
    """The very file that was opened: once its path leads to another one, or nowhere, what is written to it is lost to
    whoever opens the path next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts = path.stat()

    def check(self) -> None:
        """Raises Unavailable if the path does not lead to it any more."""
        try:
            same = os.path.samestat(self._path.stat(), self._facts)
        except OSError:
            same = False
        if not same:
            raise Unavailable(
                f"the database file {self._path} was moved away or replaced while Citadel runs, so nothing is written",
                mend="put it back where it was; or stop Citadel, restore what is right, and start it again",
            )


def prepare_folder(path: Path) -> None:
    """Make the database's folder with mode 0700, or look that it has no other.

    Raises UnsafePermissions: who can write to it can put another database in the place of ours.
    """
    folder = path.parent
    with our_errors(str(path)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    if mode & _OTHERS:
        raise UnsafePermissions(
            f"the database's folder {folder} has the mode {stat.S_IMODE(mode):04o}, so others can get at it",
            mend=f"run: chmod 700 {folder}",
        )


def prepare(path: Path, *, timeout: float) -> None:
    """Make the SQLite file with mode 0600 whatever the umask is (its -wal and -shm inherit that), or look that it is
    whole. Raises FailedPrecondition if it is corrupt; Unavailable."""
    with our_errors(str(path)):
        if not path.exists():
            _make(path)
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fchmod(handle, 0o600)
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
    if size == 0:  # never of our making
        raise FailedPrecondition(f"the database is corrupt ({path}: it is empty)", mend="restore it from a backup")
    try:
        verdict = _checked(path, timeout, whole=size <= _CHECKED_AT_START)
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
    if verdict != "ok":
        raise FailedPrecondition(f"the database is corrupt ({path}: {verdict})", mend="restore it from a backup")


def _make(path: Path) -> None:
    """An empty database, which is there whole or not at all: a file of no bytes is one that was cut off."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(new)
    try:
        database.execute("PRAGMA user_version = 1")
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
    finally:
        database.close()
    new.rename(path)
    sync_folder(path.parent)


def _checked(path: Path, timeout: float, *, whole: bool) -> str:
    database = sqlite3.connect(path, timeout=timeout)
    try:
        found = database.execute("PRAGMA quick_check(1)" if whole else "PRAGMA schema_version").fetchone()[0]
    finally:
        database.close()
    return " ".join(str(found).split()) if whole else "ok"
