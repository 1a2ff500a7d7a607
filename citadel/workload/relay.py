"""Relay: a public unix socket in front of grpcio's private one, which tells grpcio who is calling.

grpcio does not give SO_PEERCRED. So we accept here, read it, and connect to grpcio from an abstract address that is a
random token: `context.peer()` gives that back, and a PeerTable knows whose it is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import structlog

from citadel.errors import CitadelError
from citadel.workload.allowance import Allowances
from citadel.workload.listener import Listener
from citadel.workload.peer import PeerTable, peer_of, uid_of
from citadel.workload.ports import Unmetered, WorkloadMeter
from citadel.workload.splice import Patience, splice

_AT_ONCE = 16  # accepted before everybody else gets a turn
_PAUSE_SECONDS = 0.2
_CONNECT_TRIES, _CONNECT_PAUSE = 500, 0.01  # for five seconds
_DESCRIPTORS_EACH = 5  # the client's, ours to grpcio, grpcio's, the pidfd, and the census's
_DESCRIPTORS_KEPT = 256  # for the database, logs, and the listening sockets themselves
_REFILL_SECONDS = 10.0
log = structlog.get_logger("citadel.workload")

Quota = Literal["connections", "connections_per_uid"]


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Connections in all, and of one uid. More are closed at once, and so are those of a uid that in ten seconds opens
    more than it may hold: a user who connects and hangs up without end would keep everybody busy."""

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
        patience: Patience | None = None,
        meter: WorkloadMeter | None = None,
    ) -> None:
        self._listener = Listener(public, mode=mode, group=group)
        self._public = public
        self._private = private
        self._table = table
        self._patience = patience or Patience()
        self._meter = meter or Unmetered()
        self.limits = limits or RelayLimits()
        self._per_uid: Counter[int] = Counter()
        self._opened = Allowances(_REFILL_SECONDS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._refused = 0
        self._told_at = 0.0

    async def __aenter__(self) -> Relay:
        """Raises InvalidInput (path), FailedPrecondition (taken), UnsafePermissions, PermissionDenied."""
        self._socket = self._listener.__enter__()
        most = _most_connections()
        if self.limits.connections > most:
            log.warning("fewer connections than configured can be held: descriptors are limited", most=most)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.__exit__(kind, error, trace)

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left, most likely: some are free again when somebody hangs up
                log.error("no connection can be accepted now", socket=str(self._public), error=error.strerror)
                self._rest()
                return
            self._admit(connection)

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)  # type: ignore[arg-type]

        def go_on() -> None:
            if self._socket is not None:
                loop.add_reader(self._socket, self._accept)

        loop.call_later(_PAUSE_SECONDS, go_on)

    def _admit(self, connection: socket.socket) -> None:
        """The cheap part comes first: a refusal must cost us less than the attempt does the caller."""
        connection.setblocking(False)
        uid = uid_of(connection)
        if (quota := self._used_up(uid)) is not None:
            connection.close()
            self._meter.refused(quota)
            self._tell_refusal(uid, quota)
            return
        self._per_uid[uid] += 1
        task = asyncio.get_running_loop().create_task(self._serve(connection, uid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _used_up(self, uid: int) -> Quota | None:
        if len(self._tasks) >= min(self.limits.connections, _most_connections()):
            return "connections"
        now = asyncio.get_running_loop().time()
        if self._per_uid[uid] >= self.limits.per_uid or not self._opened.take(uid, self.limits.per_uid, now):
            return "connections_per_uid"
        return None

    def _tell_refusal(self, uid: int, quota: Quota) -> None:
        """Once a second at most: a flood must not become one of the log."""
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= 1:
            log.warning("connections were refused", uid=uid, quota=quota, refused=self._refused)
            self._refused, self._told_at = 0, now

    async def _serve(self, connection: socket.socket, uid: int) -> None:
        token = ""
        try:
            token = self._table.add(peer_of(connection))
            await splice(connection, await self._connect(token), self._patience)
        except CitadelError as error:
            log.info("refused a connection", why=error.message)
        except OSError as error:  # either side went away
            log.debug("a connection ended", why=error.strerror)
        finally:
            connection.close()
            self._table.remove(token)
            self._per_uid[uid] -= 1
            if not self._per_uid[uid]:
                del self._per_uid[uid]

    async def _connect(self, token: str) -> socket.socket:
        """To grpcio. Raises OSError."""
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            inner.bind(b"\0" + token.encode())
            for _ in range(_CONNECT_TRIES):
                if _connected(inner, self._private):
                    return inner
                await asyncio.sleep(_CONNECT_PAUSE)
            raise TimeoutError(errno.ETIMEDOUT, "the private socket has no room for a connection")
        except BaseException:
            inner.close()
            raise


def _connected(inner: socket.socket, path: Path) -> bool:
    """False if the listener has no room now: of that the kernel gives no notice (EAGAIN, unix(7)). Raises OSError."""
    try:
        inner.connect(os.fspath(path))
    except BlockingIOError:
        return False
    return True


def _most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_EACH)
