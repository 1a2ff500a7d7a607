"""Asks all attestors at once, each for a bounded time; one that fails adds nothing and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from citadel.errors import PermissionDenied
from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

log = structlog.get_logger("citadel.workload")


class Attestor(Protocol):
    @property
    def name(self) -> str:
        """The type of its selectors."""

    async def selectors(self, peer: Peer) -> list[Selector]:
        """What is known of the process; empty if this attestor has nothing to say of it. May raise anything."""


class Attestors:
    def __init__(self, attestors: Sequence[Attestor], *, timeout: timedelta) -> None:
        self._attestors = attestors
        self._timeout = timeout.total_seconds()

    async def attest(self, peer: Peer) -> frozenset[Selector]:
        """All selectors of `peer`. Raises PermissionDenied if it ended meanwhile: then they may be another's."""
        if not peer.same_process():
            raise PermissionDenied(f"{peer.name} has ended")
        found = await asyncio.gather(*(self._ask(attestor, peer) for attestor in self._attestors))
        if not peer.same_process():
            raise PermissionDenied(f"{peer.name} ended while it was looked at")
        return frozenset(selector for some in found for selector in some)

    async def _ask(self, attestor: Attestor, peer: Peer) -> list[Selector]:
        try:
            async with asyncio.timeout(self._timeout):
                return await attestor.selectors(peer)
        except Exception as error:  # whatever it is, it must not cost the workload the other attestors' selectors
            log.warning("an attestor failed", attestor=attestor.name, peer=peer.name, error=f"{error!r:.200}")
            return []
