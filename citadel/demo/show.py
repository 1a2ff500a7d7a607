"""What the demo prints: one plain line per event, bold on a terminal."""

from __future__ import annotations

import os
import sys
import time

_STARTED = time.monotonic()


def say(text: str, *, bold: bool = False) -> None:
    """A line with the seconds since the start."""
    line = f"{time.monotonic() - _STARTED:6.1f}s  {text}"
    write(f"\x1b[1m{line}\x1b[0m" if bold and sys.stdout.isatty() else line)


def write(text: str) -> None:
    """Whoever reads along may be gone (Ctrl-C ends the other side of a pipe, too): then nothing more is shown."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # also for what is flushed at the end
        os.close(nowhere)
