"""The clock as an argument: what time it is, for code that must be testable."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

#: The clocks of servers that share a database differ by less, unless one of them is wrong.
SERVERS_DIFFER = timedelta(minutes=5)


class Clock(Protocol):
    """Tells the time. `now` is UTC and may jump; `monotonic` never goes back (seconds, origin unspecified)."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
