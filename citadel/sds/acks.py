"""Brings acknowledgements to the server: the newest of each client and resource, in batches, in nobody's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from math import inf

import structlog

from citadel.errors import CitadelError
from citadel.sds.ports import Acknowledgement, NoMeter, StreamMeter

_BATCH = 1000
_PAUSE_SECONDS = 0.05
_RETRY_SECONDS = 1.0
log = structlog.get_logger("citadel.sds")


class AckQueue:
    """Contract: ports.Acknowledgements. `run` hands what was put to `report`, which may raise Unavailable.

    An acknowledgement or a rejection is never displaced by a mere "sent" or "gone" of the same client and resource.
    That something was sent, to a client that is on record with that resource, is reported only if no answer to it comes
    within `patience` seconds: mostly the answer is all that need be written down.
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
        self._waiting: dict[tuple[str, str, bool], tuple[float, Acknowledgement]] = {}  # with when to report it
        self._on_record: set[tuple[str, str]] = set()  # client and resource, as long as the client is connected
        self._wake = asyncio.Event()
        self.dropped = 0

    def put(self, item: Acknowledgement) -> None:
        answer = item.kind in ("ack", "nack")
        key = (item.client, item.resource, answer)
        if key not in self._waiting and len(self._waiting) >= self._bound:
            self.dropped += 1
            self._meter.report_lost()
            return
        self._waiting.pop(key, None)  # so that it moves to the end: reports keep the order of events
        due = time.monotonic()
        if item.kind == "sent" and key[:2] in self._on_record:
            due += self._patience
        elif answer:
            self._drop_sent(item)
        self._waiting[key] = (due, item)
        self._wake.set()

    def _drop_sent(self, answer: Acknowledgement) -> None:
        """What it answers tells nothing more than the answer does."""
        key = (answer.client, answer.resource, False)
        _, before = self._waiting.get(key, (0.0, None))
        if before is not None and before.kind == "sent" and before.version == answer.version:
            del self._waiting[key]

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not await self._report_some(until=time.monotonic()):
                    await asyncio.sleep(_RETRY_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)  # what comes meanwhile shares the next transaction

    async def flush(self) -> None:
        """Report what is left, once: for a graceful stop."""
        while self._waiting and await self._report_some(until=inf):
            pass

    async def _report_some(self, *, until: float) -> bool:
        """What is due by then; False if it could not be reported."""
        due = ((key, item) for key, (at, item) in self._waiting.items() if at <= until)
        batch = dict(islice(due, _BATCH))
        if not batch:
            return True
        try:
            await self._report(list(batch.values()))
        except CitadelError as error:
            log.warning("acknowledgements could not be reported yet", waiting=len(self._waiting), error=error.message)
            return False
        for key, item in batch.items():
            self._note(item)
            if self._waiting.get(key, (0.0, None))[1] is item:
                del self._waiting[key]
        return True

    def _note(self, reported: Acknowledgement) -> None:
        key = (reported.client, reported.resource)
        if reported.kind in ("gone", "ended"):
            self._on_record.discard(key)
        else:
            self._on_record.add(key)
