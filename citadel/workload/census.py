"""Census: names the clients of this node, process by process, and says of each when its process has ended.

What a process held it held in memory: once it has ended, nobody trusts or presents that any more. A stream that ended
says less: the process may go on for days with what it has.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

import structlog

from citadel.errors import ResourceExhausted
from citadel.workload.peer import start_time

_USER, _MARK = "@uid:", "/pid:"
_LOOK_SECONDS = 1.0  # a user who is at the limit must not make us look through all names at each attempt
log = structlog.get_logger("citadel.workload")

Last = Literal["ended", "forgotten"]


class Process(Protocol):
    """Who calls; see workload.peer.Peer."""

    @property
    def uid(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def process(self) -> str: ...


@dataclass(frozen=True, slots=True)
class CensusLimits:
    """How many clients are on record at once: names that one process may go by, and of all processes of one user.

    A name counts as long as its process lives, also without a stream, since the process may use what it got: a gate of
    a rotation waits for it. `memory` after its last stream nothing that it got is valid any more, and it is forgotten.
    """

    per_process: int = 64
    per_uid: int = 4096
    memory: timedelta = timedelta(hours=25)


@dataclass(slots=True)
class _Name:
    """What a process calls itself. `left_at`: when its last stream ended (monotonic seconds)."""

    streams: int = 0
    held: bool = False
    left_at: float = 0.0


@dataclass(eq=False)
class _Watched:
    """A process that lives as far as we know. A `pidfd` below zero: it cannot be watched."""

    uid: int
    pidfd: int = -1
    names: dict[str, _Name] = field(default_factory=dict)  # by client
    ended: bool = False


class Census:
    """Contract: sds.ports.Presence. Use inside a running event loop; `close` gives the descriptors back.

    `last` is called once for each client that got something: with `ended` when its process has ended and it has no
    stream open any more, and with `forgotten` when it was gone for so long that nothing it got is valid. After the
    first nothing more comes from that client.
    """

    def __init__(
        self,
        last: Callable[[str, int, Last], None],
        limits: CensusLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`last` gets the client's name, its uid, and what became of it."""
        self.limits = limits or CensusLimits()
        self._last = last
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._per_uid: Counter[int] = Counter()
        self._looked: dict[int, float] = {}  # uid: when its names were looked through last

    def came(self, node: str, caller: Process) -> str:
        """A stream of `caller` begins; its client's name, the same for all streams of one process and one node id.

        Raises ResourceExhausted if that would be one name too many: none is taken away from who still may use what
        it got, or a rotation would go on without it."""
        client = f"{node or 'unnamed'}{_USER}{caller.uid}{_MARK}{caller.process}"
        watched = self._watch(caller.process, caller.uid)
        if client not in watched.names:
            try:
                self._make_room(watched, caller)
            except ResourceExhausted:
                self._drop_if_empty(caller.process, watched)
                raise
            self._per_uid[caller.uid] += 1
        watched.names.setdefault(client, _Name()).streams += 1
        return client

    def left(self, client: str, *, held: bool) -> None:
        """One of its streams has ended, and all that is to be reported of it was. `held`: it was sent something."""
        process = client.rpartition(_MARK)[2]
        watched = self._watched[process]
        name = watched.names[client]
        name.streams -= 1
        name.held |= held
        name.left_at = self._clock()
        if watched.ended:
            self._settle(process, watched)
        elif not name.streams and not name.held:
            self._remove(watched, client)
            self._drop_if_empty(process, watched)

    def remember(self, clients: Iterable[str]) -> None:
        """Clients of an earlier run of ours: those whose process has ended meanwhile are reported, the others watched.

        A name without a process in it is from before names had one; nothing can be said of it."""
        for client in clients:
            rest, mark, process = client.rpartition(_MARK)
            if not mark:
                continue
            watched = self._watch(process, _uid_in(rest))
            if client not in watched.names:
                self._per_uid[watched.uid] += 1
                watched.names[client] = _Name(left_at=self._clock())
            watched.names[client].held = True
            if watched.ended:
                self._settle(process, watched)

    def close(self) -> None:
        for watched in self._watched.values():
            self._unwatch(watched)
        self._watched.clear()
        self._per_uid.clear()

    @property
    def names(self) -> int:
        """How many count."""
        return self._per_uid.total()

    def _make_room(self, watched: _Watched, caller: Process) -> None:
        limits = self.limits
        if len(watched.names) >= limits.per_process:
            self._forget_old(caller.uid)
            if len(watched.names) >= limits.per_process:
                raise ResourceExhausted(
                    f"{caller.name} goes by {limits.per_process} node ids already, which is the most for one process: "
                    "use the same one for each stream (sockets.workload.quota_clients_per_process)"
                )
        if self._per_uid[caller.uid] >= limits.per_uid:
            self._forget_old(caller.uid)
            if self._per_uid[caller.uid] >= limits.per_uid:
                raise ResourceExhausted(
                    f"the processes of uid {caller.uid} go by {limits.per_uid} node ids already, which is its quota: "
                    "end some, or raise sockets.workload.quota_clients_per_uid"
                )

    def _forget_old(self, uid: int) -> None:
        """Names of this user that were gone for so long that nothing they got is valid."""
        now = self._clock()
        if now - self._looked.get(uid, -_LOOK_SECONDS) < _LOOK_SECONDS:
            return
        self._looked[uid] = now
        before = now - self.limits.memory.total_seconds()
        for process, watched in list(self._watched.items()):
            if watched.uid != uid:
                continue
            for client in [c for c, name in watched.names.items() if not name.streams and name.left_at <= before]:
                self._remove(watched, client, "forgotten")
            self._drop_if_empty(process, watched)

    def _watch(self, process: str, uid: int) -> _Watched:
        found = self._watched.get(process)
        if found is None:
            found = self._watched[process] = _Watched(uid)
        if found.pidfd < 0 and not found.ended:  # new, or there were no descriptors left before
            self._begin(process, found)
        return found

    def _begin(self, process: str, watched: _Watched) -> None:
        """pidfd_open(2): readable when that very process ends. Its start time tells it from a later one of its pid."""
        pid, _, start = process.partition(".")
        try:
            watched.pidfd = os.pidfd_open(int(pid))
        except ProcessLookupError:
            watched.ended = True
            return
        except (OSError, ValueError) as error:  # no descriptors left; it is looked at again when it comes again
            log.warning(
                "a process cannot be watched, so its end will not be noticed", process=process, error=str(error)
            )
            return
        if str(start_time(int(pid))) != start:
            watched.ended = True
            self._unwatch(watched)
            return
        asyncio.get_running_loop().add_reader(watched.pidfd, self._end, process, watched)

    def _end(self, process: str, watched: _Watched) -> None:
        watched.ended = True
        self._unwatch(watched)
        self._settle(process, watched)

    def _settle(self, process: str, watched: _Watched) -> None:
        for client in [client for client, name in watched.names.items() if not name.streams]:
            self._remove(watched, client, "ended")
        self._drop_if_empty(process, watched)

    def _remove(self, watched: _Watched, client: str, last: Last | None = None) -> None:
        name = watched.names.pop(client)
        self._per_uid[watched.uid] -= 1
        if not self._per_uid[watched.uid]:
            del self._per_uid[watched.uid]
            self._looked.pop(watched.uid, None)
        if last is not None and name.held:
            self._last(client, watched.uid, last)

    def _drop_if_empty(self, process: str, watched: _Watched) -> None:
        if not watched.names and self._watched.get(process) is watched:
            del self._watched[process]
            self._unwatch(watched)

    def _unwatch(self, watched: _Watched) -> None:
        if watched.pidfd >= 0:
            with suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = -1


def _uid_in(name: str) -> int:
    uid = name.rpartition(_USER)[2]
    return int(uid) if uid.isdecimal() else -1
