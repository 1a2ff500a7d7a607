"""What the kernel is asked to see to for a process (prctl(2), linux/prctl.h)."""

from __future__ import annotations

import ctypes
import resource
import signal
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def leave_no_core() -> None:
    """Private keys are in memory: no core dump of it is written, and no process of the same user may look into it.
    A kernel that refuses does not keep us from starting."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent() -> None:
    """This process is killed when the one that started it ends in whatever way, even if nothing in it runs any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
