"""A load on plain HTTP/1.1 listeners of Envoys, and the application behind them; both in a thread of their own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path

from citadel.demo.traffic import Tally, answer

_PATIENCE = 10.0  # seconds that a request may take
_CONNECTIONS = 2  # to each listener
_REQUESTS = 10  # on a connection that is given up after some


class Application:
    """Answers 200 to whatever it is asked on a unix socket. Use as a context."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Application:
        self._thread.start()
        serving = asyncio.start_unix_server(answer, os.fspath(self._path))
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Load:
    """Asks each of `listeners` (sockets by name) `per_second` times a second, on connections that stay open, as long as
    the context lasts. What became of the requests is in `tallies`, by the same names; it may be read meanwhile.
    `given_up`: listeners whose connections are closed by us after a second or so: who proxies TCP cannot say that one
    is about to end."""

    def __init__(self, listeners: Mapping[str, Path], *, per_second: float, given_up: Collection[str] = ()) -> None:
        self.tallies = {name: Tally() for name in listeners}
        self._listeners = listeners
        self._given_up = frozenset(given_up)
        self._pause = _CONNECTIONS / per_second
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    @property
    def ok(self) -> int:
        return sum(tally.ok for tally in self.tallies.values())

    @property
    def failed(self) -> dict[str, dict[str, int]]:
        """Why requests failed, and how often, by listener; empty if none did."""
        return {name: dict(tally.faults) for name, tally in self.tallies.items() if tally.failed}

    def wait_for(self, more: int, seconds: float = 30) -> None:
        """Until every listener has answered `more` requests from now on. Raises AssertionError."""
        wanted = {name: tally.ok + more for name, tally in self.tallies.items()}
        end = time.monotonic() + seconds
        while any(tally.ok < wanted[name] for name, tally in self.tallies.items()):
            assert time.monotonic() < end, f"answered so far: {self.tallies}"
            time.sleep(0.02)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, path in self._listeners.items():
                for number in range(_CONNECTIONS):
                    longest = _REQUESTS if name in self._given_up else inf
                    delay = number * self._pause / _CONNECTIONS
                    group.create_task(self._ask(path, self.tallies[name], delay, longest))

    async def _ask(self, path: Path, tally: Tally, delay: float, longest: float) -> None:
        await asyncio.sleep(delay)
        connection: _Connection | None = None
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                async with asyncio.timeout(_PATIENCE):
                    connection = connection or await _Connection.open(path)
                    status = await connection.get()
                if status == 200:
                    tally.ok += 1
                else:
                    tally.fail(f"HTTP {status}")
            except (OSError, TimeoutError, EOFError) as error:
                tally.fail(type(error).__name__)
                if connection is not None:
                    connection.close()
                connection = None
            if connection is not None and (connection.ended or connection.requests >= longest):
                connection.close()
                connection = None
            due = max(due + self._pause, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if connection is not None:
            connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests = 0
        self.ended = False  # the other side said that it takes no more requests on it

    @classmethod
    async def open(cls, path: Path) -> _Connection:
        return cls(*await asyncio.open_unix_connection(path))

    async def get(self) -> int:
        """One request's status. Raises OSError, EOFError."""
        self.requests += 1
        self._writer.write(b"GET /hello HTTP/1.1\r\nhost: app.test\r\n\r\n")
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        self.ended = b"\r\nconnection: close\r\n" in head
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await self._reader.readexactly(int(line.split(b":")[1]))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        with suppress(OSError):
            self._writer.close()
