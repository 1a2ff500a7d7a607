"""The files of the decision log: JSON lines, rotated by size, for few eyes; and how a record is found in them again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from citadel.errors import FailedPrecondition, PermissionDenied

_LONGEST_LINE = 1 << 20


class _Handler(RotatingFileHandler):
    """The standard library's, with our file mode, and with errors that are raised."""

    def __init__(self, path: Path, *, mode: int, size: int, files: int) -> None:
        self._mode = mode
        super().__init__(path, maxBytes=size, backupCount=files - 1, encoding="utf-8", delay=True)

    def _open(self) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.baseFilename, flags, self._mode)
        os.fchmod(descriptor, self._mode)
        # half of a surrogate pair, from a header in no UTF-8, becomes JSON's escape for it: no line is lost for it
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  (the standard library's)
        raise


class LogFiles:
    """A file and its older ones, `NAME.1` the newest of these; `size` bytes each at most, `files` of them. Blocks."""

    def __init__(self, path: Path, *, mode: int = 0o600, size: int = 64 << 20, files: int = 4) -> None:
        self.path = path
        self._files = files
        self._handler = _Handler(path, mode=mode, size=size, files=files)

    def write(self, records: Iterable[dict[str, Any]]) -> None:
        """Append the records. Raises PermissionDenied if that is not possible; some of them may be written then."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for record in records:
                line = json.dumps(record, separators=(",", ":"))  # ASCII: `tail` shows no control characters
                self._handler.emit(logging.makeLogRecord({"msg": "%s", "args": (line,)}))
        except OSError as error:
            raise PermissionDenied(f"{self.path} cannot be written: {error.strerror}") from None

    def find(self, log_id: str) -> dict[str, Any] | None:
        """The record of this id; None: it is not there (any more). Raises PermissionDenied, FailedPrecondition."""
        wanted = f'"id":{json.dumps(log_id)},'.encode()
        for path in self._newest_first():
            for line in _lines_with(path, wanted):
                record = _record(line, path)
                if record.get("id") == log_id:
                    return record
        return None

    def close(self) -> None:
        """Writing opens it again."""
        self._handler.close()

    def _newest_first(self) -> Iterator[Path]:
        yield self.path
        for number in range(1, self._files):
            yield self.path.with_name(f"{self.path.name}.{number}")


def _lines_with(path: Path, wanted: bytes) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                if wanted in line:
                    yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}") from None


def _record(line: bytes, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        raise FailedPrecondition(f"{path} has a line that is no record: {line[:80]!r}") from None
    return record if isinstance(record, dict) else {}
