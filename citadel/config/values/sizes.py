"""Numbers of bytes, as `64MiB`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, PlainSerializer


def _write_size(size: ByteSize) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(int(size))


Size = Annotated[ByteSize, PlainSerializer(_write_size, return_type=str)]
