"""Relay: a public unix socket in front of grpcio's private one, which tells grpcio who is calling.

grpcio does not give SO_PEERCRED. So we accept here, read it, and connect to grpcio from an abstract address that is a
random token: `context.peer()` gives that back, and a PeerTable knows whose it is.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import structlog

from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, PermissionDenied
from citadel.workload.peer import PeerTable, peer_of

MAX_PATH_BYTES = 107  # unix(7): sun_path has 108 with its final zero
_CHUNK = 64 * 1024
_BACKLOG = 1024
log = structlog.get_logger("citadel.workload")


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Connections in all, and of one uid. More are closed at once."""

    connections: int = 16384
    per_uid: int = 1024


class Relay:
    """Listens on `public`, relays to `private`. Use as an async context; inside it is listening."""

    def __init__(
        self,
        public: Path,
        private: Path,
        table: PeerTable,
        *,
        mode: int,
        group: int | None = None,
        limits: RelayLimits | None = None,
    ) -> None:
        self._public = public
        self._private = private
        self._table = table
        self._mode = mode
        self._group = group
        self.limits = limits or RelayLimits()
        self._per_uid: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lock = -1

    async def __aenter__(self) -> Relay:
        """Raises InvalidInput (path), FailedPrecondition (taken), PermissionDenied."""
        if len(os.fsencode(self._public)) > MAX_PATH_BYTES:
            raise InvalidInput(
                f"the socket path {self._public} is longer than {MAX_PATH_BYTES} bytes", mend="choose a shorter one"
            )
        try:
            self._claim()
            listener = self._listen()
        except OSError as error:
            self._release()
            raise PermissionDenied(
                f"the socket {self._public} cannot be made: {error.strerror}", mend="check its folder and who owns it"
            ) from error
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=_CHUNK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(OSError):
            self._public.unlink()
        self._release()

    def _claim(self) -> None:
        """Hold a lock beside the socket for life: a dead server's is cleaned away, a live one's is not taken."""
        self._public.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._lock = os.open(self._public.with_name(f".{self._public.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise self._taken() from None
        if self._public.exists():
            if not self._public.is_socket():
                self._release()
                raise FailedPrecondition(f"{self._public} is there, and is no socket", mend="move it away")
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(os.fspath(self._public)) not in (errno.ECONNREFUSED, errno.ENOENT):
                    self._release()
                    raise self._taken()
            self._public.unlink()

    def _taken(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"another program listens on {self._public} already", mend="stop it, or choose another socket path"
        )

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)  # nobody else may connect before the mode is right
        try:
            listener.bind(os.fspath(self._public))
        finally:
            os.umask(before)
        if self._group is not None:
            os.chown(self._public, -1, self._group)
        self._public.chmod(self._mode)
        listener.listen(_BACKLOG)
        return listener

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._serve(reader, writer)
        except CitadelError as error:
            log.info("refused a connection", why=error.message)
        except (OSError, asyncio.CancelledError):
            pass  # either side went away, or we are ending
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if len(self._table) >= self.limits.connections or self._per_uid[peer.uid] >= self.limits.per_uid:
            peer.close()
            raise PermissionDenied(f"{peer.name} has too many connections, or all together have")
        token = self._table.add(peer)
        self._per_uid[peer.uid] += 1
        inner_writer: asyncio.StreamWriter | None = None
        try:
            inner_reader, inner_writer = await self._connect(token)
            await _relay(reader, writer, inner_reader, inner_writer)
        finally:
            if inner_writer is not None:
                inner_writer.close()
            self._per_uid[peer.uid] -= 1
            if not self._per_uid[peer.uid]:
                del self._per_uid[peer.uid]
            self._table.remove(token)

    async def _connect(self, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            inner.bind(b"\0" + token.encode())
            await asyncio.get_running_loop().sock_connect(inner, os.fspath(self._private))
            return await asyncio.open_unix_connection(sock=inner, limit=_CHUNK)
        except BaseException:
            inner.close()
            raise


async def _relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    inner_reader: asyncio.StreamReader,
    inner_writer: asyncio.StreamWriter,
) -> None:
    """Both ways until either side has ended; what is on its way still arrives."""
    ways = [asyncio.ensure_future(_pump(reader, inner_writer)), asyncio.ensure_future(_pump(inner_reader, writer))]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        sink.write(chunk)
        await sink.drain()
    with suppress(OSError, NotImplementedError):
        sink.write_eof()
