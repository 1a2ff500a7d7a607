"""Asks all attestors at once, each for a bounded time; one that fails adds nothing and holds up nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from citadel.errors import CitadelError, PermissionDenied
from citadel.workload.peer import Peer
from citadel.workload.ports import Unmetered, WorkloadMeter
from citadel.workload.upstream import Selector

log = structlog.get_logger("citadel.workload")


class Attestor(Protocol):
    @property
    def name(self) -> str:
        """The type of its selectors."""

    async def selectors(self, peer: Peer) -> list[Selector]:
        """What is known of the process; empty if this attestor has nothing to say of it. May raise anything."""


class Attestors:
    def __init__(
        self, attestors: Sequence[Attestor], *, timeout: timedelta, meter: WorkloadMeter | None = None
    ) -> None:
        self._attestors = attestors
        self._timeout = timeout.total_seconds()
        self._meter = meter or Unmetered()
        self._failing: set[str] = set()

    async def attest(self, peer: Peer, before: frozenset[Selector] = frozenset()) -> frozenset[Selector]:
        """All selectors of `peer`. Raises PermissionDenied if it ended meanwhile: then they may be another's.

        `before`: what was found of this very peer earlier. An attestor that cannot tell now (its daemon is away, it is
        late) leaves that as it was: so a restart of Docker takes nobody's identity, and adds to nobody's.
        """
        if not peer.same_process():
            raise PermissionDenied(f"{peer.name} has ended, or became another user since it connected")
        found = await asyncio.gather(*(self._ask(attestor, peer) for attestor in self._attestors))
        if not peer.same_process():
            raise PermissionDenied(f"{peer.name} ended, or became another user, while it was looked at")
        told = {selector for some in found for selector in some or ()}
        unsure = {attestor.name for attestor, some in zip(self._attestors, found, strict=True) if some is None}
        return frozenset(told | {selector for selector in before if selector.type in unsure})

    async def _ask(self, attestor: Attestor, peer: Peer) -> list[Selector] | None:
        """None if it could not tell."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                found = await attestor.selectors(peer)
        except TimeoutError:
            self._meter.attestation(attestor.name, "late", time.perf_counter() - began)
            self._failed(attestor, peer, f"no answer within {self._timeout:g} s")
            return None
        except Exception as error:  # whatever it is, it must not cost the workload the other attestors' selectors
            self._meter.attestation(attestor.name, "failed", time.perf_counter() - began)
            told = error.sentence() if isinstance(error, CitadelError) else f"{error!r:.200}"
            self._failed(attestor, peer, told)
            return None
        self._meter.attestation(attestor.name, "known" if found else "nothing", time.perf_counter() - began)
        if found and attestor.name in self._failing:
            self._failing.discard(attestor.name)
            log.info("an attestor answers again", attestor=attestor.name)
        return found

    def _failed(self, attestor: Attestor, peer: Peer, why: str) -> None:
        """Said aloud once, until it answers again: a daemon that is away fails for every caller, every few seconds."""
        tell = log.debug if attestor.name in self._failing else log.warning
        tell("an attestor failed", attestor=attestor.name, peer=peer.name, error=why)
        self._failing.add(attestor.name)
