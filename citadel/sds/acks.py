"""Brings acknowledgements to the server: the newest of each client and resource, in batches, in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

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
    """

    def __init__(
        self,
        report: Callable[[Sequence[Acknowledgement]], Awaitable[None]],
        *,
        bound: int = 50_000,
        meter: StreamMeter | None = None,
    ) -> None:
        self._report = report
        self._bound = bound
        self._meter = meter or NoMeter()
        self._waiting: dict[tuple[str, str, bool], Acknowledgement] = {}
        self._wake = asyncio.Event()
        self.dropped = 0

    def put(self, item: Acknowledgement) -> None:
        key = (item.client, item.resource, item.kind in ("ack", "nack"))
        if key not in self._waiting and len(self._waiting) >= self._bound:
            self.dropped += 1
            self._meter.report_lost()
            return
        self._waiting.pop(key, None)  # so that it moves to the end: reports keep the order of events
        self._waiting[key] = item
        self._wake.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not await self._report_some():
                    await asyncio.sleep(_RETRY_SECONDS)
                await asyncio.sleep(_PAUSE_SECONDS)  # what comes meanwhile shares the next transaction

    async def flush(self) -> None:
        """Report what is left, once: for a graceful stop."""
        while self._waiting and await self._report_some():
            pass

    async def _report_some(self) -> bool:
        batch = dict(list(self._waiting.items())[:_BATCH])
        try:
            await self._report(list(batch.values()))
        except CitadelError as error:
            log.warning("acknowledgements could not be reported yet", waiting=len(self._waiting), error=error.message)
            return False
        for key, item in batch.items():
            if self._waiting.get(key) is item:
                del self._waiting[key]
        return True
