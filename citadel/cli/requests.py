"""Requests as JSON lines, from a file or standard input, read as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citadel.errors import NotFound, PermissionDenied

_CHUNK = 1 << 16


@contextmanager
def opened(name: str) -> Iterator[int]:
    """A descriptor of the file; `-`: standard input. Raises NotFound, PermissionDenied."""
    if name == "-":
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(Path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None
    except OSError as error:
        raise PermissionDenied(f"{name} cannot be read: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def chunks(descriptor: int) -> Iterator[bytes]:
    """What has come, as soon as it has. Raises PermissionDenied."""
    try:
        while chunk := os.read(descriptor, _CHUNK):
            yield chunk
    except OSError as error:
        raise PermissionDenied(f"the requests cannot be read: {error.strerror}") from None
