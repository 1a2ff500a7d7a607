"""Census: names the clients of this node, process by process, and says of each when its process has ended.

What a process held it held in memory: once it has ended, nobody trusts or presents that any more. A stream that ended
says less: the process may go on for days with what it has.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from citadel.workload.peer import start_time

_MARK = "/pid:"
_NAMES = 16384  # that one process may go by; what is beyond it is looked at again at our next start
log = structlog.get_logger("citadel.workload")


class Process(Protocol):
    """Who calls; see workload.peer.Peer."""

    @property
    def uid(self) -> int: ...

    @property
    def process(self) -> str: ...


@dataclass(eq=False)
class _Watched:
    """A process that lives as far as we know. `streams`: how many each of its clients has open."""

    pidfd: int
    streams: Counter[str] = field(default_factory=Counter)
    ended: bool = False


class Census:
    """Contract: sds.ports.Presence. Use inside a running event loop; `close` gives the descriptors back.

    `ended` is called once for each client whose process has ended and that has no stream open any more: after it
    nothing more comes from that client.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._watched: dict[str, _Watched] = {}

    def came(self, node: str, caller: Process) -> str:
        """A stream of `caller` begins; its client's name, the same for all streams of one process and one node id."""
        client = f"{node or 'unnamed'}@uid:{caller.uid}{_MARK}{caller.process}"
        self._watch(caller.process).streams[client] += 1
        return client

    def left(self, client: str) -> None:
        """One of its streams has ended, and all that is to be reported of it was."""
        process = client.rpartition(_MARK)[2]
        watched = self._watched[process]
        watched.streams[client] -= 1
        if watched.ended:
            self._settle(process, watched)
            return
        unwatched = watched.pidfd < 0
        if not watched.streams[client] and (unwatched or len(watched.streams) > _NAMES):
            del watched.streams[client]
        if unwatched and not watched.streams:
            del self._watched[process]

    def remember(self, clients: Iterable[str]) -> None:
        """Clients of an earlier run of ours: those whose process has ended meanwhile are reported, the others watched.

        A name without a process in it is from before names had one; nothing can be said of it."""
        for client in clients:
            _, mark, process = client.rpartition(_MARK)
            if mark:
                watched = self._watch(process)
                watched.streams[client] += 0
                if watched.ended:
                    self._settle(process, watched)

    def close(self) -> None:
        for watched in self._watched.values():
            self._unwatch(watched)
        self._watched.clear()

    def _watch(self, process: str) -> _Watched:
        found = self._watched.get(process)
        if found is None:
            found = self._watched[process] = _Watched(-1)
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
        except (OSError, ValueError) as error:  # no descriptors left; it is looked at again at our next start
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
        for client in [client for client, streams in watched.streams.items() if streams == 0]:
            del watched.streams[client]
            self._ended(client)
        if not watched.streams:
            self._watched.pop(process, None)

    def _unwatch(self, watched: _Watched) -> None:
        if watched.pidfd >= 0:
            with suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = -1
