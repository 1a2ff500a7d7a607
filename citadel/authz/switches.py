"""Telling that another set of policies is in force: whoever waits is woken, however many wait, and nobody polls."""

from __future__ import annotations

import asyncio


class Switches:
    """The switches of the set in force. For one event loop.

    Take `coming` first, look at what is in force second, and then wait: no switch is missed.
    """

    def __init__(self) -> None:
        self._coming = asyncio.Event()

    @property
    def coming(self) -> asyncio.Event:
        """Set at the next switch, and never again: each switch has an event of its own."""
        return self._coming

    def happened(self) -> None:
        """Another set is in force from now on."""
        passed, self._coming = self._coming, asyncio.Event()
        passed.set()
