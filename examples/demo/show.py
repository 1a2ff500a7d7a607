"""What the demo prints: one plain line per event, bold on a terminal."""

from __future__ import annotations

import sys
import time

_STARTED = time.monotonic()


def say(text: str, *, bold: bool = False) -> None:
    """A line with the seconds since the start."""
    line = f"{time.monotonic() - _STARTED:6.1f}s  {text}"
    print(f"\x1b[1m{line}\x1b[0m" if bold and sys.stdout.isatty() else line, flush=True)
