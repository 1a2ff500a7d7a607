"""Which entries a process matches: those whose selectors are all among its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from citadel.workload.upstream import AssignedEntry, Selector


class EntryIndex:
    """Finds the entries whose selectors are all among a process's. Adding and discarding one costs the same however
    many there are.

    Each entry is filed under the one of its selectors that was the rarest when it came, so that few are looked at in
    vain: of ten thousand entries with the same uid and a path each, a process with that uid is compared with one.
    """

    def __init__(self, entries: Iterable[AssignedEntry] = ()) -> None:
        self._common: defaultdict[Selector, int] = defaultdict(int)
        self._under: dict[Selector, dict[str, AssignedEntry]] = {}
        self._place: dict[str, Selector] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: AssignedEntry) -> None:
        """Raises nothing. One without selectors matches nobody and is passed over."""
        if not entry.selectors:
            return
        for selector in entry.selectors:
            self._common[selector] += 1
        if len(entry.selectors) == 1:
            (rarest,) = entry.selectors
        else:
            rarest = min(entry.selectors, key=lambda s: (self._common[s], s))
        self._under.setdefault(rarest, {})[entry.id] = entry
        self._place[entry.id] = rarest

    def discard(self, entry: AssignedEntry) -> None:
        """Take out what was added as `entry`."""
        selector = self._place.pop(entry.id, None)
        if selector is None:
            return
        del self._under[selector][entry.id]
        if not self._under[selector]:
            del self._under[selector]
        for one in entry.selectors:
            self._common[one] -= 1
            if not self._common[one]:
                del self._common[one]

    def matching(self, selectors: frozenset[Selector]) -> list[AssignedEntry]:
        """In the order in which `default` is chosen: created first, equal times by id."""
        found = [e for s in selectors for e in self._under.get(s, {}).values() if e.selectors <= selectors]
        return sorted(found, key=lambda e: (e.created_at, e.id))
