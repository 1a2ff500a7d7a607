"""Those who wait for the next version of the policies: so many, and one look for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from citadel.errors import ResourceExhausted

_MOST, _MOST_EACH = 4_096, 8
_LOOK_SECONDS = 0.2


class Watching:
    """Tells each watcher the version that `current` gives, and again whenever it is another one."""

    def __init__(self, current: Callable[[], str]) -> None:
        self._current = current
        self._watchers: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def versions(self, watcher: str) -> AsyncGenerator[str]:
        """Until it is closed. `watcher`: who it is. Raises ResourceExhausted: he, or everybody, has enough of them."""
        if self._watchers[watcher] >= _MOST_EACH or self._watchers.total() >= _MOST:
            raise ResourceExhausted(f"{watcher} watches {self._watchers[watcher]} times; {_MOST_EACH} is the most")
        self._watchers[watcher] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="version watch")
        try:
            told: str | None = None
            while True:
                changed = self._changed
                if (now := self._current()) != told:
                    told = now
                    yield now
                await changed.wait()
        finally:
            self._watchers[watcher] -= 1
            if not self._watchers[watcher]:
                del self._watchers[watcher]
            if not self._watchers:
                await self._stop()

    async def _look(self) -> None:
        told = self._current()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (now := self._current()) != told:
                told = now
                self._changed.set()
                self._changed = asyncio.Event()

    async def _stop(self) -> None:
        task, self._looking = self._looking, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
