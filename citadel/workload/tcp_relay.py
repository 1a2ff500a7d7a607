"""TcpRelay: a TCP address in front of grpcio's private socket, so that its connections are counted and bounded.

TLS is grpcio's: what goes through here is not read. grpcio sets no bound on connections, and whoever can reach the
address could otherwise take all descriptors of a process that has better things to do with them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import structlog

from citadel.errors import FailedPrecondition
from citadel.workload.splice import Patience, splice

_BACKLOG = 1024
_PAUSE_SECONDS = 0.2
_CONNECT_SECONDS = 5.0
log = structlog.get_logger("citadel.workload")


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """Connections in all, and from one address. More are closed at once."""

    connections: int = 4096
    per_address: int = 256


class TcpRelay:
    """Listens on TCP, relays to the unix socket `private`. Use as an async context; inside it is listening."""

    def __init__(
        self, host: str, port: int, private: Path, limits: TcpLimits, patience: Patience | None = None
    ) -> None:
        self._host, self._port = host, port
        self._private = private
        self._limits = limits
        self._patience = patience or Patience()
        self._per_address: Counter[str] = Counter()
        self._addresses: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._refused = 0
        self._told_at = float("-inf")

    @property
    def port(self) -> int:
        """The one that it listens on."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def address(self, peer: str) -> str:
        """Where the connection comes from that grpcio calls `peer`."""
        return self._addresses.get(peer.removeprefix("unix-abstract:"), "nowhere")

    async def __aenter__(self) -> TcpRelay:
        """Raises FailedPrecondition if the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise FailedPrecondition(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}", mend="choose a free one"
            ) from None
        self._socket = listener
        self._accepting = asyncio.create_task(self._accept(listener), name="tcp relay")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._socket is not None
        assert self._accepting is not None
        tasks = [self._accepting, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:  # no descriptors left, most likely: some are free again when somebody hangs up
                log.error("no connection can be accepted now", port=self._port, error=error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._admit(connection, str(address[0]))

    def _admit(self, connection: socket.socket, address: str) -> None:
        most = self._limits
        if len(self._tasks) >= most.connections or self._per_address[address] >= most.per_address:
            connection.close()
            self._tell_refusal(address)
            return
        self._per_address[address] += 1
        task = asyncio.create_task(self._serve(connection, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell_refusal(self, address: str) -> None:
        """Once a second at most: a flood must not become one of the log."""
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= 1:
            log.warning("connections were refused", address=address, refused=self._refused)
            self._refused, self._told_at = 0, now

    async def _serve(self, connection: socket.socket, address: str) -> None:
        token = secrets.token_hex(16)
        self._addresses[token] = address
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await splice(connection, await self._connect(token), self._patience)
        except OSError as error:  # either side went away
            log.debug("a connection ended", why=error.strerror)
        finally:
            connection.close()
            del self._addresses[token]
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    async def _connect(self, token: str) -> socket.socket:
        """To grpcio, by a name that grpcio then calls us. Raises OSError."""
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            inner.bind(b"\0" + token.encode())
            async with asyncio.timeout(_CONNECT_SECONDS):
                while True:
                    with suppress(BlockingIOError):  # the listener has no room: of that the kernel gives no notice
                        inner.connect(os.fspath(self._private))
                        return inner
                    await asyncio.sleep(0.01)
        except BaseException:
            inner.close()
            raise
