"""The high-water mark: how far this server has seen its database go, in a file beside it.

A database that was restored from an older copy would give out bundle sequence numbers again that clients have seen with
another content, and forget certificates that are in use. The mark makes that evident.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from citadel.durable import replace_file
from citadel.errors import FailedPrecondition, PermissionDenied

_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class HighWater:
    """`audit_sequence` is of this server's own chain (`writer`), and grows with all that changes."""

    database_id: str
    bundle_sequence: int
    writer: str
    audit_sequence: int

    def behind(self, database_id: str, bundle_sequence: int, audit_sequence: int) -> str:
        """In what a database is behind the mark, as a sentence; empty if in nothing, or it is another database."""
        if database_id != self.database_id:
            return ""
        faults = []
        if bundle_sequence < self.bundle_sequence:
            faults.append(
                f"its bundle has the sequence {bundle_sequence}, and clients have seen {self.bundle_sequence}"
            )
        if audit_sequence < self.audit_sequence:
            faults.append(
                f"its audit log of {self.writer} ends at record {audit_sequence}, and went to {self.audit_sequence}"
            )
        return "; ".join(faults)


def read_mark(path: Path) -> HighWater | None:
    """None if there is none. Raises PermissionDenied, FailedPrecondition."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_LONGEST))
            return HighWater(
                str(values["database_id"]),
                int(values["bundle_sequence"]),
                str(values["writer"]),
                int(values["audit_sequence"]),
            )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}", mend="check who owns it") from error
    except (ValueError, KeyError, TypeError):
        raise FailedPrecondition(
            f"{path} does not hold a high-water mark", mend="if the database is the newest there is, remove the file"
        ) from None


def write_mark(path: Path, mark: HighWater) -> None:
    """Durably, mode 0600. Raises PermissionDenied."""
    try:
        replace_file(path, json.dumps(asdict(mark)).encode())
    except OSError as error:
        raise PermissionDenied(
            f"{path} cannot be written: {error.strerror}",
            mend="check who owns its folder, and that the disk is not full",
        ) from error


__all__ = ["HighWater", "read_mark", "write_mark"]
