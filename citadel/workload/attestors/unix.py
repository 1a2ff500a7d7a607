"""Unix attestor: user and groups from the kernel, and (if configured) the program's path and hash. SPIRE's names."""

from __future__ import annotations

import asyncio
import grp
import pwd
from pathlib import Path

import structlog

from citadel.errors import CitadelError, Unavailable
from citadel.process import credentials
from citadel.workload.attestors.answers import Answers, in_thread
from citadel.workload.attestors.cgroup import PROC
from citadel.workload.attestors.executable import Executables
from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

_NAMES_SECONDS = 1.0  # what takes longer is left out, so that the rest is not lost with it
_PROGRAM_SECONDS = 1.5
_REMEMBERED_SECONDS = 30.0
log = structlog.get_logger("citadel.workload")


class UnixAttestor:
    """`discover_path`: also `unix:path` and, for programs up to `max_hash_size` bytes (0: for none), `unix:sha256`."""

    name = "unix"

    def __init__(self, *, discover_path: bool, max_hash_size: int, proc: Path = PROC) -> None:
        self._programs = Executables(size_limit=max_hash_size, proc=proc) if discover_path else None
        self._proc = proc
        self._names: Answers[tuple[str, int], str | None] = Answers(_ask_name, seconds=_REMEMBERED_SECONDS, most=4096)

    async def selectors(self, peer: Peer) -> list[Selector]:
        """Never empty. Raises Unavailable if the process's groups cannot be read."""
        now = credentials(peer.pid, self._proc)
        if now is None:
            raise Unavailable(f"the groups of process {peer.pid} cannot be read")
        supplementary = now.groups
        found = [f"uid:{peer.uid}", f"gid:{peer.gid}", *(f"supplementary_gid:{gid}" for gid in supplementary)]
        asked = [("user", "user", peer.uid), ("group", "group", peer.gid)]
        asked += [("supplementary_group", "group", gid) for gid in supplementary]
        names, program = await asyncio.gather(self._named(peer, asked), self._program(peer))
        return [Selector.of(self.name, value) for value in found + names + program if value.isprintable()]

    async def _named(self, peer: Peer, asked: list[tuple[str, str, int]]) -> list[str]:
        """The names of numbers; user databases may be on the network, and then they may be away."""
        looking = {what: asyncio.ensure_future(self._names.get(what[1:])) for what in asked}
        _, late = await asyncio.wait(looking.values(), timeout=_NAMES_SECONDS)
        for one in late:
            one.cancel()
        if late:
            log.warning("the user database did not answer in time: names are left out", peer=peer.name)
        told = ((what[0], one.result()) for what, one in looking.items() if one not in late and not one.exception())
        return [f"{selector}:{name}" for selector, name in told if name]

    async def _program(self, peer: Peer) -> list[str]:
        if self._programs is None:
            return []
        try:
            async with asyncio.timeout(_PROGRAM_SECONDS):
                return await self._programs.look(peer)
        except TimeoutError:
            log.warning("a program takes long to read: it is not known by path and hash yet", peer=peer.name)
        except CitadelError as error:
            log.warning("a program cannot be looked at", peer=peer.name, error=error.sentence())
        return []


async def _ask_name(what: tuple[str, int]) -> str | None:
    return await in_thread(lambda: _name(*what))


def _name(database: str, number: int) -> str | None:
    try:
        return pwd.getpwuid(number).pw_name if database == "user" else grp.getgrgid(number).gr_name
    except KeyError:  # one that only has a number
        return None
