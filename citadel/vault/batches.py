"""Batches: what many tasks ask for at once goes to Vault in few calls, each answer back to whoever asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from citadel.errors import CitadelError, InternalFault, ResourceExhausted, Unavailable

_PAUSE_SECONDS = 1.0  # after a failure: who comes meanwhile is told at once, and does not wait for another timeout


@dataclass(slots=True, eq=False)
class _Asked:
    item: bytes
    done: asyncio.Future[bytes]


class Batches:
    """`send` answers a batch of at most `most` items, in their order. At most `at_once` batches are under way; who asks
    meanwhile goes with the next. Of `waiting` and more, the rest is turned away.

    When a batch has failed as Unavailable, everybody is told the same for a second, and then one batch tries again.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Awaitable[Sequence[bytes]]],
        *,
        most: int = 64,
        at_once: int = 4,
        waiting: int = 8192,
    ) -> None:
        self._send = send
        self._most = most
        self._at_once = at_once
        self._waiting = waiting
        self._queue: deque[_Asked] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._due = False
        self._failed: Unavailable | None = None
        self._again_at = 0.0

    async def ask(self, item: bytes) -> bytes:
        """The answer to one item. Raises what `send` does, and ResourceExhausted."""
        loop = asyncio.get_running_loop()
        if self._failed is not None:
            if loop.time() < self._again_at:
                raise _again(self._failed)
            self._again_at = loop.time() + _PAUSE_SECONDS  # this one tries; who comes meanwhile does not
        if len(self._queue) >= self._waiting:
            raise ResourceExhausted(f"{len(self._queue)} signatures are waited for already", mend="try again later")
        asked = _Asked(item, loop.create_future())
        self._queue.append(asked)
        if not self._due:
            self._due = True
            loop.call_soon(self._start)  # who asks in the same turn of the loop goes along
        return await asked.done

    def _start(self) -> None:
        self._due = False
        while self._queue and len(self._under_way) < self._at_once:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._most))]
            batch = [asked for asked in batch if not asked.done.done()]  # those who were cancelled wait no longer
            if batch:
                task = asyncio.get_running_loop().create_task(self._carry(batch), name="vault batch")
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start()

    async def _carry(self, batch: Sequence[_Asked]) -> None:
        error: BaseException
        try:
            answers = await self._send([asked.item for asked in batch])
            if len(answers) != len(batch):
                raise InternalFault(f"Vault gave {len(answers)} answers to {len(batch)} questions")
            self._failed = None
        except Unavailable as failure:
            self._failed, self._again_at = failure, asyncio.get_running_loop().time() + _PAUSE_SECONDS
            error = failure
        except CitadelError as failure:
            self._failed, error = None, failure
        except asyncio.CancelledError:
            error = Unavailable("we are stopping")
        else:
            for asked, answer in zip(batch, answers, strict=True):
                if not asked.done.done():
                    asked.done.set_result(answer)
            return
        for asked in batch:
            if not asked.done.done():
                asked.done.set_exception(_again(error) if isinstance(error, Unavailable) else error)


def _again(failure: Unavailable) -> Unavailable:
    """One exception for each who is told: a traceback is one task's own."""
    return Unavailable(failure.message, mend=failure.mend, retry_after=failure.retry_after)
