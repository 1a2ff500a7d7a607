"""Failpoints: named places at which a test can have this process die, as if by kill -9.

Armed by the environment alone: FAILPOINT=rotation.committed:root.activate. Where it is not set, a place costs one
comparison. Who may set the environment of this process may end it anyway.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("FAILPOINT", "")


def passing(place: str, what: str = "") -> None:
    """Die here, if this place is armed; `what` tells the occasions of one place apart."""
    if _ARMED and (f"{place}:{what}" if what else place) == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
