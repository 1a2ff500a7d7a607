"""`citadel up` as a process."""

from __future__ import annotations

import subprocess
import sys

_LOOK = """
import ctypes, resource
from citadel.cli.process import leave_no_core
leave_no_core()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_it_leaves_no_core_dump_and_lets_no_process_of_its_user_look_into_it() -> None:
    said = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["0", "0"], "PR_GET_DUMPABLE, and the size that a core dump may have"
