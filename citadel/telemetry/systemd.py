"""What systemd is told of this process, if it asks: sd_notify(3), for Type=notify, or notify-reload (systemd 253)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import structlog

_log = structlog.get_logger("citadel")


class Systemd:
    """Speaks to whoever NOTIFY_SOCKET names; if nobody does, says nothing. Never raises: it is only news."""

    def __init__(self, env: Mapping[str, str]) -> None:
        name = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # an abstract socket (unix(7))

    def ready(self, status: str) -> None:
        self._say(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
                teller.settimeout(1)
                teller.connect(self._address)
                teller.send(text.encode())
        except OSError as error:
            _log.warning("systemd could not be told", error=error.strerror or str(error), mainpid=os.getpid())
