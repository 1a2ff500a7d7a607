"""What waits to be written: bounded, and lossy by a rule. Pure.

When it is full, an allow gives way to a denial, the oldest first; where there is no allow, what is new is lost. Every
record that is lost is counted.
"""

from __future__ import annotations

from collections import deque
from typing import Any

Record = dict[str, Any]


class Backlog:
    """Denials and allows in the order in which they came, each kind for itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._denials: deque[Record] = deque()
        self._allows: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._denials) + len(self._allows)

    def add(self, record: Record) -> str:
        """The outcome (`deny`, `allow`) of the record that is lost for this one, or with it; empty: none is."""
        outcome = str(record["outcome"])
        lost = ""
        if len(self) >= self._most:
            if outcome == "allow" or not self._allows:
                return outcome
            self._allows.popleft()
            lost = "allow"
        (self._allows if outcome == "allow" else self._denials).append(record)
        return lost

    def take(self, most: int) -> list[Record]:
        """The oldest, denials first."""
        taken = [self._denials.popleft() for _ in range(min(most, len(self._denials)))]
        return taken + [self._allows.popleft() for _ in range(min(most - len(taken), len(self._allows)))]
