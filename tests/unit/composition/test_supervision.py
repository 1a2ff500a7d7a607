"""A task that a defect ends is begun again, and the health tells."""

from __future__ import annotations

import asyncio

import pytest

from citadel.errors import InternalFault
from citadel.supervision import Supervisor


async def test_a_task_that_fails_is_begun_again_and_told() -> None:
    supervisor, again, begun = Supervisor(), asyncio.Event(), 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ValueError("a defect")
        again.set()
        await asyncio.Event().wait()

    await supervisor.look()
    task = asyncio.create_task(supervisor.keep("follower", work))
    async with asyncio.timeout(10):
        await again.wait()
    with pytest.raises(InternalFault, match=r"follower \(ValueError\)"):
        await supervisor.look()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_ends_by_itself_is_a_defect_too() -> None:
    supervisor, ran = Supervisor(), asyncio.Event()

    async def work() -> None:
        ran.set()

    task = asyncio.create_task(supervisor.keep("short", work))
    async with asyncio.timeout(10):
        await ran.wait()
        while not supervisor._faults:
            await asyncio.sleep(0)
    with pytest.raises(InternalFault, match=r"short \(it ended\)"):
        await supervisor.look()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
