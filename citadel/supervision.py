"""What runs as long as the server does: begun again if a defect ends it, and told in the health while it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from citadel.errors import InternalFault

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_STEADY_SECONDS = 60.0  # who ran for so long has got over it
log = structlog.get_logger("citadel")


class Supervisor:
    """Keeps tasks going. Whoever starts `keep` as a task cancels it in the end."""

    def __init__(self) -> None:
        self._faults: dict[str, str] = {}

    async def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until cancelled, again and again if it ends: with a pause that grows, so that it cannot spin."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            began = loop.time()
            forgetting = loop.call_later(_STEADY_SECONDS, self._faults.pop, name, None)
            try:
                await work()
                why = "it ended"
            except Exception as error:  # the last line of defence: without it we would go on half-dead, in silence
                log.exception("a task of ours failed and is begun again", task=name)
                why = type(error).__name__
            finally:
                forgetting.cancel()
            if loop.time() - began >= _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            self._faults[name] = why
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def look(self) -> None:
        """For the health. Raises InternalFault naming what failed less than a minute ago, or fails still."""
        if self._faults:
            told = ", ".join(f"{name} ({why})" for name, why in self._faults.items())
            raise InternalFault(f"failed and begun again: {told}", mend="the log has the defect; please report it")
