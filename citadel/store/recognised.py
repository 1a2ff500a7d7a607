"""The database that this server used before, recognised by an id that a file beside it remembers.

A server that finds its database empty (a volume that was not mounted, a wrong URL) would otherwise make a new root and
serve it: every workload would be cut off from every other.
"""

from __future__ import annotations

import re
from pathlib import Path

from citadel.durable import replace_file
from citadel.errors import FailedPrecondition, PermissionDenied

_ID = re.compile(r"[0-9a-f]{32}")


def remembered(path: Path) -> str | None:
    """The id in the file; None if there is no file. Raises PermissionDenied, FailedPrecondition."""
    try:
        text = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}", mend="check who owns it") from error
    if not _ID.fullmatch(text):
        raise FailedPrecondition(
            f"{path} does not hold a database's id",
            mend="put it back from a copy, or remove it if the database is right",
        )
    return text


def remember(path: Path, database_id: str) -> None:
    """Write the id down, durably. Raises PermissionDenied."""
    try:
        replace_file(path, f"{database_id}\n".encode(), mode=0o644)
    except OSError as error:
        raise PermissionDenied(
            f"{path} cannot be written: {error.strerror}",
            mend="check who owns its folder, and that the disk is not full",
        ) from error
