"""Callers who ask one question after another: attested at the first, and kept as long as their connection."""

from __future__ import annotations

import asyncio

from citadel.workload.feeds import Feed, Feeds
from citadel.workload.peer import PeerTable


class Callers:
    """The feeds of connections. Use as a context; on leaving it, all are closed.

    A feed that is kept is looked at again as those of streams are (Feeds.run), so that no call pays for attestation.
    """

    def __init__(self, feeds: Feeds, table: PeerTable) -> None:
        self._feeds = feeds
        self._table = table
        self._opened: dict[str, asyncio.Future[Feed]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Callers:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def feed(self, peer: str) -> Feed:
        """The feed of the caller that gRPC calls `peer`. Many calls at once share one attestation.

        Raises what Feeds.open raises; the next call tries again then."""
        opened = self._opened.get(peer)
        if opened is None:
            opened = self._opened[peer] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._hold(peer, opened), name="caller")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(opened)

    async def _hold(self, peer: str, opened: asyncio.Future[Feed]) -> None:
        closed = asyncio.Event()
        try:
            self._table.when_closed(peer, closed.set)
            async with self._feeds.open(peer) as (_, feed):
                opened.set_result(feed)
                await closed.wait()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                opened.cancel()
                raise
            if not opened.done():
                opened.set_exception(error)
                opened.exception()  # whoever asked may have gone away
        finally:
            del self._opened[peer]
