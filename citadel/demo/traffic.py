"""The load: a tiny HTTP service behind one Envoy, and a client that asks for it through the other."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-type: text/plain\r\n\r\nok\n"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def serve_upstream(port: int) -> asyncio.Server:
    """An HTTP/1.1 service that answers 200 to whatever it is asked."""
    return await asyncio.start_server(answer, "127.0.0.1", port)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of one connection, as `serve_upstream` does."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
            await writer.drain()
    writer.close()


@dataclass
class Tally:
    """What became of the requests."""

    ok: int = 0
    failed: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def fail(self, why: str) -> None:
        self.failed += 1
        self.faults[why] = self.faults.get(why, 0) + 1


async def get(port: int, path: str = "/") -> int:
    """One request on a connection of its own; its status. Raises OSError, TimeoutError, EOFError."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: upstream.demo\r\nconnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split(b" ", 2)[1])
        finally:
            writer.close()


async def load(port: int, tally: Tally, *, per_second: float) -> None:
    """Ask `per_second` times a second, each time on a new connection, until cancelled."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        try:
            status = await get(port, "/hello")
            if status == 200:
                tally.ok += 1
            else:
                tally.fail(f"HTTP {status}")
        except (OSError, TimeoutError, EOFError) as error:
            tally.fail(type(error).__name__)
        due = max(due + 1 / per_second, loop.time() - 1)
        await asyncio.sleep(max(0, due - loop.time()))
