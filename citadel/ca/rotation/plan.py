"""A plan: one change of the root, from when the new one is in the bundle until the old one is out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from citadel.ca.model import Skid


class Phase(StrEnum):
    DISTRIBUTING = "distributing"  # the new root is in the bundle; clients acknowledge it
    RETIRING = "retiring"  # the new root signs; leaves of the old one are replaced or run out
    DONE = "done"  # the old root has left the bundle
    ABANDONED = "abandoned"  # the new root has left the bundle, and never signed


#: A plan in one of these is over.
CLOSED = frozenset({Phase.DONE, Phase.ABANDONED})


@dataclass(frozen=True, slots=True)
class Excused:
    """A client that was silent, or gone, for longer than the grace: recorded, and no longer waited for."""

    node: str
    client: str
    since: datetime  # silent, or gone, since then
    at: datetime  # when that was recorded


@dataclass(frozen=True, slots=True)
class Hold:
    """A hook that said no to the next step: what it said, and since when."""

    step: str
    why: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """One rotation. `revision` counts its changes, from 1: a change names the one that it starts from.

    `sequence` is that of the first bundle with `incoming` in it: who acknowledged it, or a later one, trusts both.
    """

    id: str
    revision: int
    incoming: Skid
    outgoing: Skid
    phase: Phase
    sequence: int
    started_at: datetime
    phase_at: datetime  # when it entered `phase`
    actor: str
    reason: str = ""
    auto: bool = True  # goes on by itself as the gates open; else each step waits for its command
    emergency: bool = False  # the outgoing key is compromised: it is tainted when it stops signing, then revoked
    unasked: bool = False  # in an emergency: goes on when the short gate ends, whoever is left behind
    rolled_back: bool = False  # `incoming` had signed before; `outgoing` is the one that was to take its place
    excused: tuple[Excused, ...] = ()
    left_behind: tuple[str, ...] = ()  # who had not acknowledged when somebody forced a step
    planned: bool = False  # begun by the schedule: it takes no step in quiet hours
    hold: Hold | None = None  # what a hook said to the next step, while it says no
    replaced_at: datetime | None = None  # when no leaf in use chained to `outgoing` any more

    @property
    def is_open(self) -> bool:
        return self.phase not in CLOSED

    def excuses(self, node: str, client: str) -> bool:
        return any(e.node == node and e.client == client for e in self.excused)
