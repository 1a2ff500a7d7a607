"""Brings acknowledgements to the server: the newest of each client and resource, in batches, in nobody's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from math import inf

import structlog

from citadel.errors import CitadelError
from citadel.sds.ports import Acknowledgement, NoMeter, StreamMeter

_BATCH = 1000
_PAUSE_SECONDS = 0.05
_RETRY_SECONDS = 1.0
log = structlog.get_logger("citadel.sds")

_Key = tuple[str, str, str]  # client, resource, and the sort of its news
_Waiting = tuple[float, Acknowledgement]  # when to report it, and what


class AckQueue:
    """Contract: ports.Acknowledgements. `run` hands what was put to `report`, which may raise Unavailable.

    An acknowledgement or a rejection is never displaced by a mere "sent" or "gone" of the same client and resource.
    That something was sent, to a client that is on record with that resource, is reported only if no answer to it comes
    within `patience` seconds, or before it goes away: mostly the answer is all that need be written down.
    What one client says keeps its order. Users take turns, and when there is no room left, it is whoever has the most
    waiting that loses its newest: a rotation waits longer for who is not heard of, and never goes on without it.
    """

    def __init__(
        self,
        report: Callable[[Sequence[Acknowledgement]], Awaitable[None]],
        *,
        bound: int = 50_000,
        patience: float = 3.0,
        meter: StreamMeter | None = None,
    ) -> None:
        self._report = report
        self._bound = bound
        self._patience = patience
        self._meter = meter or NoMeter()
        self._waiting: dict[int, dict[_Key, _Waiting]] = {}  # by uid
        self._count = 0
        self._on_record: set[tuple[str, str]] = set()  # client and resource, as long as the client is connected
        self._wake = asyncio.Event()
        self.dropped = 0

    def put(self, item: Acknowledgement) -> None:
        mine = self._waiting.setdefault(item.uid, {})
        due = time.monotonic()
        match item.kind:
            case "sent" if (item.client, item.resource) in self._on_record:
                due += self._patience
            case "ack" | "nack":
                self._drop_sent(mine, item)
            case "gone":
                self._hurry_sent(mine, item, due)
        self._set(mine, due, item)
        if self._count > self._bound:
            self._drop_one()
        self._wake.set()

    def _set(self, mine: dict[_Key, _Waiting], due: float, item: Acknowledgement) -> None:
        key = (item.client, item.resource, _sort(item.kind))
        self._pop(mine, key)  # so that it moves to the end: reports keep the order of events
        mine[key] = (due, item)
        self._count += 1

    def _pop(self, mine: dict[_Key, _Waiting], key: _Key) -> Acknowledgement | None:
        found = mine.pop(key, None)
        if found is None:
            return None
        self._count -= 1
        return found[1]

    def _drop_sent(self, mine: dict[_Key, _Waiting], answer: Acknowledgement) -> None:
        """What it answers tells nothing more than the answer does."""
        key = (answer.client, answer.resource, "sent")
        _, before = mine.get(key, (0.0, None))
        if before is not None and before.version == answer.version:
            self._pop(mine, key)

    def _hurry_sent(self, mine: dict[_Key, _Waiting], gone: Acknowledgement, due: float) -> None:
        """Whoever goes away without an answer owes it since then, however often it comes back (see ca.rotation)."""
        sent = self._pop(mine, (gone.client, gone.resource, "sent"))
        if sent is not None:
            self._set(mine, due, sent)

    def _drop_one(self) -> None:
        uid = max(self._waiting, key=lambda uid: len(self._waiting[uid]))
        self._waiting[uid].popitem()
        self._count -= 1
        self.dropped += 1
        self._meter.report_lost()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._count:
                if not await self._report_some(until=time.monotonic()):
                    await asyncio.sleep(_RETRY_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)  # what comes meanwhile shares the next transaction

    async def flush(self) -> None:
        """Report what is left, once: for a graceful stop."""
        while self._count and await self._report_some(until=inf):
            pass

    async def _report_some(self, *, until: float) -> bool:
        """What is due by then; False if it could not be reported."""
        batch = list(islice(self._in_turn(until), _BATCH))
        if not batch:
            return True
        try:
            await self._report([item for _, item in batch])
        except CitadelError as error:
            log.warning("acknowledgements could not be reported yet", waiting=self._count, error=error.message)
            return False
        for key, item in batch:
            self._note(item)
            mine = self._waiting.get(item.uid, {})
            if mine.get(key, (0.0, None))[1] is item:
                self._pop(mine, key)
        self._waiting = {uid: those for uid, those in self._waiting.items() if those}
        return True

    def _in_turn(self, until: float) -> Iterator[tuple[_Key, Acknowledgement]]:
        """What is due: one of each user, then the next of each, and so on."""
        turns = [_due(those, until) for those in self._waiting.values()]
        while turns:
            left = []
            for turn in turns:
                if (found := next(turn, None)) is not None:
                    yield found
                    left.append(turn)
            turns = left

    def _note(self, reported: Acknowledgement) -> None:
        key = (reported.client, reported.resource)
        if reported.kind in ("sent", "ack", "nack"):
            self._on_record.add(key)
        else:
            self._on_record.discard(key)


def _sort(kind: str) -> str:
    return "answer" if kind in ("ack", "nack") else kind


def _due(those: dict[_Key, _Waiting], until: float) -> Iterator[tuple[_Key, Acknowledgement]]:
    return ((key, item) for key, (at, item) in those.items() if at <= until)
