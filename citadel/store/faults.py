"""The one place where a database's errors become ours."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from citadel.errors import Aborted, CitadelError, FailedPrecondition, InvalidInput, PermissionDenied, Unavailable


class Conflict(Aborted):
    """What was to be written contradicts what is there: somebody was quicker."""


class _Kind(NamedTuple):
    """One kind of fault: what is wrong (before the name of the database), how to mend it, whether it may pass."""

    what: str
    mend: str
    passes: bool = True


_FULL = _Kind("the disk is full", "free some space; nothing that was answered is lost")
_READ_ONLY = _Kind("it cannot be written to", "check the file system, and who owns the folder")
_BROKEN = _Kind("the database is corrupt", "restore it from a backup", passes=False)
_TABLES = _Kind(
    "the database has other tables than Citadel made", "restore it from a backup, or begin with an empty one", False
)

# By what SQLite says (sqlite.org/rescode.html has the codes; Python's driver gives the text reliably, them not).
_SQLITE = (
    ("database or disk is full", _FULL),
    ("readonly database", _READ_ONLY),
    ("unable to open", _Kind("the database cannot be opened", "check that the folder exists and who owns it")),
    ("disk I/O error", _Kind("the disk reports an error", "check the disk, and that it is not full")),
    ("database is locked", _Kind("another program holds the database locked", "end what has it open")),
    ("malformed", _BROKEN),
    ("file is not a database", _BROKEN),
    ("file is encrypted", _BROKEN),
    ("no such table", _TABLES),
    ("no such column", _TABLES),
    ("already exists", _TABLES),
)
# By SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html).
_POSTGRESQL = {
    "3D000": _Kind("there is no such database", "create it: createdb -O USER NAME", passes=False),
    "28P01": _Kind("PostgreSQL refuses the password", "check store.password_file", passes=False),
    "28000": _Kind("PostgreSQL does not let us in", "check the user in store.url, and pg_hba.conf", passes=False),
    "42501": _Kind(
        "the database user may not do this",
        "make it the owner of the database: ALTER DATABASE NAME OWNER TO USER",
        False,
    ),
    "42704": _Kind("PostgreSQL does not know an option in store.url", "correct store.url", passes=False),
    "42P01": _TABLES,
    "42703": _TABLES,
    "42P07": _TABLES,
    "53100": _FULL,
    "53300": _Kind("PostgreSQL has no connection left", "raise its max_connections, or lower store.pool_size"),
    "25006": _Kind("PostgreSQL is read-only: a standby, or out of space", "have store.url name the primary"),
    "57P01": _Kind("PostgreSQL is being stopped", "start it again; we go on by ourselves"),
    "57P03": _Kind("PostgreSQL is starting or stopping", "wait; we go on by ourselves"),
}
_ZERO_BYTE = "22021"  # character_not_in_repertoire: the drivers send UTF-8, so that nothing else causes it
_FILES = {
    errno.ENOSPC: _FULL.mend,
    errno.EDQUOT: "raise the quota, or free some space",
    errno.EROFS: "mount it so that it can be written to",
    errno.EACCES: "run as the user who owns it",
    errno.EPERM: "run as the user who owns it",
    errno.EISDIR: "have store.url name a file",
    errno.ENOTDIR: "have store.url name a file in a folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ELOOP: "have store.url name a file, not a link to itself",
}
DRIVER_ERRORS = (DBAPIError, SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


def translate(error: Exception, where: str) -> CitadelError:
    """Our error for one of the driver's, without what it was asked to write."""
    if isinstance(error, IntegrityError):
        return Conflict(f"somebody else changed the database {where} first", mend="try again")
    if isinstance(error, OSError) and error.filename is not None:
        what = f"{error.filename!s}: {(error.strerror or type(error).__name__).lower()}"
        raised = PermissionDenied if error.errno in (errno.EACCES, errno.EPERM) else Unavailable
        return raised(what, mend=_FILES.get(error.errno or 0, "check the file system, and who owns the folder"))
    cause = getattr(error, "orig", None) or error
    text = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
    if getattr(cause, "sqlstate", None) == _ZERO_BYTE:
        return InvalidInput("a text has a zero byte in it, which the database does not take", mend="leave it out")
    text = re.sub(r"^<class '[^']*'>: ", "", text)  # SQLAlchemy's name for asyncpg's error
    if kind := _kind(cause, text):
        message = f"{kind.what} ({where}: {text})"
        return Unavailable(message, mend=kind.mend) if kind.passes else FailedPrecondition(message, mend=kind.mend)
    if isinstance(error, TimeoutError | PoolTimeout):
        text = "it did not answer in time"
    return Unavailable(f"the database {where} cannot be used now: {text}", mend="check that it runs and can be reached")


def _kind(cause: object, text: str) -> _Kind | None:
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _POSTGRESQL.get(state)
    return next((kind for mark, kind in _SQLITE if mark in text), None)


@contextmanager
def our_errors(where: str) -> Iterator[None]:
    """Inside, errors of SQLAlchemy, the drivers and the network come out as CitadelErrors."""
    try:
        yield
    except CitadelError:
        raise
    except DRIVER_ERRORS as error:
        raise translate(error, where) from error
