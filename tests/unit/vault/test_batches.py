"""What many tasks ask at once goes in few calls, and an outage is told to all without each waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from citadel.errors import InternalFault, PermissionDenied, ResourceExhausted, Unavailable
from citadel.vault.batches import Batches


async def test_who_asks_at_once_goes_along_and_gets_its_own_answer() -> None:
    sizes = []

    async def send(items: Sequence[bytes]) -> Sequence[bytes]:
        sizes.append(len(items))
        await asyncio.sleep(0)
        return [item.upper() for item in items]

    batches = Batches(send, most=10, at_once=2)
    asked = [b"%d" % number + b"x" for number in range(45)]
    assert await asyncio.gather(*map(batches.ask, asked)) == [item.upper() for item in asked]
    assert sizes == [10, 10, 10, 10, 5]


async def test_an_outage_is_told_at_once_and_one_tries_again_a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def send(items: Sequence[bytes]) -> Sequence[bytes]:
        calls.append(len(items))
        if len(calls) < 3:
            raise Unavailable("sealed", retry_after=timedelta(seconds=5))
        return items

    batches = Batches(send)
    monkeypatch.setattr("citadel.vault.batches._PAUSE_SECONDS", 0.05)
    for _ in range(4):
        with pytest.raises(Unavailable, match="sealed") as caught:
            await batches.ask(b"x")
        assert caught.value.retry_after == timedelta(seconds=5)
    assert calls == [1]
    await asyncio.sleep(0.06)
    results = await asyncio.gather(*(batches.ask(b"x") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in results)
    assert calls == [1, 1]
    await asyncio.sleep(0.06)
    assert await batches.ask(b"x") == b"x"
    assert await batches.ask(b"y") == b"y"


async def test_a_refusal_is_told_to_those_of_its_batch_and_stops_nobody_else() -> None:
    async def send(items: Sequence[bytes]) -> Sequence[bytes]:
        if b"bad" in items:
            raise PermissionDenied("no")
        return items if b"short" not in items else []

    batches = Batches(send, most=1)
    with pytest.raises(PermissionDenied):
        await batches.ask(b"bad")
    assert await batches.ask(b"good") == b"good"
    with pytest.raises(InternalFault, match="0 answers to 1"):
        await batches.ask(b"short")


async def test_there_is_a_bound_and_who_is_cancelled_is_not_waited_for() -> None:
    go = asyncio.Event()
    sent: list[bytes] = []

    async def send(items: Sequence[bytes]) -> Sequence[bytes]:
        await go.wait()
        sent.extend(items)
        return items

    batches = Batches(send, most=1, at_once=1, waiting=2)
    first = asyncio.create_task(batches.ask(b"1"))
    await asyncio.sleep(0.01)
    second, third = asyncio.create_task(batches.ask(b"2")), asyncio.create_task(batches.ask(b"3"))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await batches.ask(b"4")
    second.cancel()
    go.set()
    assert await first == b"1"
    assert await third == b"3"
    assert sent == [b"1", b"3"]
