"""The one place where a database's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from citadel.errors import Aborted, CitadelError, FailedPrecondition, Unavailable


class Conflict(Aborted):
    """What was to be written contradicts what is there: somebody was quicker."""


_SQLITE = (
    ("database or disk is full", "the disk is full", "free some space; nothing was lost"),
    ("readonly database", "the database is read-only", "check the file system and the owner of the db folder"),
    ("unable to open", "the database cannot be opened", "check that the folder exists and who owns it"),
    ("disk I/O error", "the disk reports an error", "check the disk"),
    ("database is locked", "another program holds the database locked", "end what has it open"),
)
DRIVER_ERRORS = (DBAPIError, SQLAlchemyError, OSError, TimeoutError)
_BROKEN = ("malformed", "file is not a database", "file is encrypted")


def translate(error: Exception, where: str) -> CitadelError:
    """Our error for one of the driver's, without what it was asked to write."""
    if isinstance(error, IntegrityError):
        return Conflict(f"somebody else changed the database {where} first", mend="try again")
    cause = getattr(error, "orig", None) or error
    text = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
    if any(mark in text for mark in _BROKEN):
        return FailedPrecondition(f"the database {where} is corrupt ({text})", mend="restore it from a backup")
    for mark, what, mend in _SQLITE:
        if mark in text:
            return Unavailable(f"{what} ({where})", mend=mend)
    return Unavailable(f"the database {where} cannot be used now: {text}", mend="check that it runs and can be reached")


@contextmanager
def our_errors(where: str) -> Iterator[None]:
    """Inside, errors of SQLAlchemy, the drivers and the network come out as CitadelErrors."""
    try:
        yield
    except CitadelError:
        raise
    except DRIVER_ERRORS as error:
        raise translate(error, where) from error
