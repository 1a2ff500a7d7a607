"""Connections: who is at the other end, attested once for all that is asked on one, and again when that grows old."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from citadel.errors import PermissionDenied
from citadel.workload.attestors import Attestors
from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found, or will be, and since when (seconds of the event loop)."""

    selectors: asyncio.Task[frozenset[Selector]]
    since: float


class Connections:
    """The selectors of each connection's peer. What was found serves for `recheck` seconds; whoever has streams open is
    looked at again by then (Feeds.run), and who has none when it opens the next one. That the process is still the one
    that connected, is looked at each time.
    """

    def __init__(self, attestors: Attestors, recheck: float) -> None:
        self._attestors = attestors
        self._recheck = recheck
        self._known: WeakKeyDictionary[Peer, _Known] = WeakKeyDictionary()  # a Peer is one connection's

    async def selectors(self, peer: Peer) -> frozenset[Selector]:
        """Raises PermissionDenied if `peer` has ended or became another user."""
        known = self._known.get(peer)
        if known is None or asyncio.get_running_loop().time() - known.since >= self._recheck:
            known = self._begin(peer, self._attestors.attest(peer))
        elif not peer.same_process():
            raise PermissionDenied(f"{peer.name} has ended, or became another user since it connected")
        return await asyncio.shield(known.selectors)

    async def look_again(self, peer: Peer, before: frozenset[Selector]) -> frozenset[Selector]:
        """Whatever is known. Raises as `selectors` does."""
        return await asyncio.shield(self._begin(peer, self._attestors.attest(peer, before=before)).selectors)

    def _begin(self, peer: Peer, looking: Coroutine[Any, Any, frozenset[Selector]]) -> _Known:
        """Many streams that open at once share one look, which goes on if one of them goes away."""
        task = asyncio.create_task(looking, name="attestation")
        known = self._known[peer] = _Known(task, asyncio.get_running_loop().time())
        task.add_done_callback(lambda _: self._looked(peer, known))
        return known

    def _looked(self, peer: Peer, known: _Known) -> None:
        """What failed is not kept: the next stream asks anew, and an error would hold on to its peer."""
        task = known.selectors
        if (task.cancelled() or task.exception() is not None) and self._known.get(peer) is known:
            del self._known[peer]
