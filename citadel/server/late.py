"""What a start cannot do while Vault is away: the rest comes up, and this is done as soon as Vault is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from citadel.errors import CitadelError, Unavailable
from citadel.vault import TransitKek

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds
log = structlog.get_logger("citadel")


class LateStart:
    """`ensure` is what is to be done; `waits_for_vault`: there is a Vault that it may wait for."""

    def __init__(self, ensure: Callable[[], Awaitable[None]], *, waits_for_vault: bool) -> None:
        self._ensure = ensure
        self._waits_for_vault = waits_for_vault
        self.fault = ""

    async def begin(self) -> None:
        """Do it now, or note that it is to be done later. Raises what it raises, but for Unavailable with a Vault."""
        try:
            await self._ensure()
        except Unavailable as error:
            if not self._waits_for_vault:
                raise
            self.fault = f"the start is not finished: {error.sentence()}"
            log.warning("the start goes on when Vault is there", reason=error.sentence())

    async def run(self) -> None:
        """Go on until it is done; until cancelled."""
        pause = _FIRST_PAUSE
        while self.fault:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._ensure()
            except CitadelError as error:
                self.fault = f"the start is not finished: {error.sentence()}"
                continue
            self.fault = ""
            log.info("the start is finished")
        await asyncio.Event().wait()


async def looked_at(kek: TransitKek) -> TransitKek:
    """The key, looked at if Vault is there; else before its first use. Raises FailedPrecondition, and what
    Session.call raises but Unavailable."""
    try:
        await kek.look()
    except Unavailable as error:
        log.warning("the key-encryption key could not be looked at yet", reason=error.sentence())
    return kek
