"""Those who wait for the next version of the policies: so many, each woken by the switch itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable

from citadel.authz.switches import Switches
from citadel.errors import ResourceExhausted

_MOST, _MOST_EACH = 4_096, 8


class Watching:
    """Tells each watcher the version that `current` gives, and again whenever a switch has made it another one."""

    def __init__(self, current: Callable[[], str], switches: Switches) -> None:
        self._current = current
        self._switches = switches
        self._watchers: Counter[str] = Counter()

    async def versions(self, watcher: str) -> AsyncGenerator[str]:
        """Until it is closed. `watcher`: who it is. Raises ResourceExhausted: he, or everybody, has enough of them."""
        if self._watchers[watcher] >= _MOST_EACH or self._watchers.total() >= _MOST:
            raise ResourceExhausted(f"{watcher} watches {self._watchers[watcher]} times; {_MOST_EACH} is the most")
        self._watchers[watcher] += 1
        try:
            told: str | None = None
            while True:
                coming = self._switches.coming  # before looking, so that no switch is missed
                if (now := self._current()) != told:
                    told = now
                    yield now
                await coming.wait()
        finally:
            self._watchers[watcher] -= 1
            if not self._watchers[watcher]:
                del self._watchers[watcher]
