"""Answers of slow neighbours: each asked once at a time, remembered for a moment, and never waited for too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from citadel.errors import Unavailable

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class Answers(Generic[_K, _T]):
    """Asks `ask` about a key. All who want to know the same at once share one question, and its answer for `seconds`.

    At most `most` keys are held, and `at_once` are asked about at a time. A question goes on when somebody who waits
    for it gives up: the next one finds its answer. Failures are not remembered.
    """

    def __init__(
        self, ask: Callable[[_K], Awaitable[_T]], *, seconds: float, most: int, at_once: int = 1 << 20
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._most = most
        self._slots = asyncio.Semaphore(at_once)
        self._held: dict[_K, tuple[float, asyncio.Future[_T]]] = {}

    async def get(self, key: _K) -> _T:
        """Raises what `ask` raises, and Unavailable while `most` questions have no answer yet."""
        now = asyncio.get_running_loop().time()
        asked_at, answer = self._held.get(key, (0.0, None))
        if answer is None or (answer.done() and (_failed(answer) or now >= asked_at + self._seconds)):
            self._make_room(key)
            answer = asyncio.ensure_future(self._asked(key))
            answer.add_done_callback(_failed)  # somebody looked at it, even if all who waited have given up
            self._held[key] = (now, answer)
        return await asyncio.shield(answer)

    async def _asked(self, key: _K) -> _T:
        async with self._slots:
            return await self._ask(key)

    def _make_room(self, key: _K) -> None:
        self._held.pop(key, None)
        if len(self._held) < self._most:
            return
        old = next((k for k, (_, answer) in self._held.items() if answer.done()), None)
        if old is None:
            raise Unavailable(f"{self._most} questions wait for an answer already")
        del self._held[old]


def _failed(answer: asyncio.Future[_T]) -> bool:
    return answer.cancelled() or answer.exception() is not None


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread of its own that nobody has to wait for, not even the interpreter when it ends.

    For what may hang in the kernel or in a library for ever, a file on a dead server say: the shared pool of threads
    would run out of them.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def tell(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # told to who waits
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name="attestor", daemon=True).start()
    return await done
