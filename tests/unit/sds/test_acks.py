"""The queue of acknowledgements: what is reported, in which order, and what need not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from citadel.errors import Unavailable
from citadel.sds.acks import AckQueue
from citadel.sds.ports import Acknowledgement

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def said(
    kind: str, version: str = "1", client: str = "cart", resource: str = "ROOTCA", uid: int = 1
) -> Acknowledgement:
    return Acknowledgement(NOW, client, "1", kind, resource, "", version, uid=uid)


class Server:
    """Takes reports, unless it is `away`."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.away = False
        self._news = asyncio.Event()

    async def report(self, items: Sequence[Acknowledgement]) -> None:
        if self.away:
            raise Unavailable("it is away")
        self.reports += [f"{item.client} {item.kind} {item.version}" for item in items]
        self._news.set()

    async def until(self, *reports: str) -> None:
        async with asyncio.timeout(10):
            while self.reports != list(reports):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(queue: AckQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def known(server: Server, queue: AckQueue) -> None:
    """The client's first answer is on record."""
    queue.put(said("ack", "0"))
    await server.until("cart ack 0")
    server.reports.clear()


async def test_what_is_sent_to_somebody_new_is_reported_at_once() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=3600)
    async with running(queue):
        queue.put(said("sent"))
        await server.until("cart sent 1")


async def test_an_answer_that_comes_soon_is_all_that_is_reported() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=3600)
    async with running(queue):
        await known(server, queue)
        queue.put(said("sent"))
        queue.put(said("ack"))
        queue.put(said("ack", client="later"))
        await server.until("cart ack 1", "later ack 1")
    await queue.flush()
    assert server.reports == ["cart ack 1", "later ack 1"]


async def test_silence_is_reported_after_a_while() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=0.1)
    async with running(queue):
        await known(server, queue)
        queue.put(said("sent"))
        await server.until("cart sent 1")


async def test_an_answer_to_something_older_does_not_hide_that_the_newest_was_sent() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=0.1)
    async with running(queue):
        await known(server, queue)
        queue.put(said("sent", "2"))
        queue.put(said("ack", "1"))
        await server.until("cart ack 1", "cart sent 2")


async def test_whoever_went_away_is_new_when_it_comes_back() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=3600)
    async with running(queue):
        await known(server, queue)
        queue.put(said("gone"))
        await server.until("cart gone 1")
        queue.put(said("sent", "2"))
        await server.until("cart gone 1", "cart sent 2")


async def test_a_graceful_stop_reports_what_waits_for_an_answer() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=3600)
    async with running(queue):
        await known(server, queue)
        queue.put(said("sent"))
    await queue.flush()
    assert server.reports == ["cart sent 1"]


async def test_a_server_that_is_away_gets_it_later_and_what_overflows_is_counted() -> None:
    server = Server()
    server.away = True
    queue = AckQueue(server.report, bound=2)
    for number in range(3):
        queue.put(said("ack", client=f"c{number}"))
    assert queue.dropped == 1
    await queue.flush()
    server.away = False
    async with running(queue):
        await server.until("c0 ack 1", "c1 ack 1")


async def test_whoever_goes_away_without_an_answer_is_on_record_as_owing_it() -> None:
    server = Server()
    queue = AckQueue(server.report, patience=3600)
    async with running(queue):
        await known(server, queue)
        queue.put(said("sent"))
        queue.put(said("gone"))
        await server.until("cart sent 1", "cart gone 1")


async def test_what_a_client_says_keeps_its_order_and_its_end_comes_last() -> None:
    server = Server()
    server.away = True
    queue = AckQueue(server.report)
    for kind in ("sent", "ack", "gone"):
        queue.put(said(kind))
    queue.put(said("ended", "", resource=""))
    await queue.flush()
    server.away = False
    await queue.flush()
    assert server.reports == ["cart ack 1", "cart gone 1", "cart ended "]


async def test_a_full_queue_costs_whoever_has_the_most_in_it_and_nobody_else() -> None:
    server = Server()
    queue = AckQueue(server.report, bound=100)
    for number in range(1000):
        queue.put(said("ack", client=f"flood{number}", uid=1))
    for number in range(20):
        queue.put(said("ack", client=f"quiet{number}", uid=2))
    assert queue.dropped == 920
    await queue.flush()
    assert len(server.reports) == 100
    assert {f"quiet{number} ack 1" for number in range(20)} <= set(server.reports)
    assert "flood0 ack 1" in server.reports, "what was there first stays"


async def test_users_take_turns_so_that_a_long_line_of_one_delays_no_other() -> None:
    server = Server()
    queue = AckQueue(server.report)
    for number in range(3000):
        queue.put(said("ack", client=f"flood{number}", uid=1))
    queue.put(said("ack", client="quiet", uid=2))
    await queue.flush()
    assert server.reports.index("quiet ack 1") < 1000
