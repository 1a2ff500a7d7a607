"""Peers: the process at the other end of a unix socket, in the kernel's words, and safe against pid reuse."""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from citadel.errors import PermissionDenied
from citadel.process import credentials

_PEERCRED = struct.Struct("3i")  # struct ucred, unix(7)
_PREFIX = "unix-abstract:"


@dataclass(frozen=True, eq=False)
class Peer:
    """A process, as SO_PEERCRED named it when it connected. `pidfd` holds on to that very process."""

    pid: int
    uid: int
    gid: int
    pidfd: int = field(repr=False)
    start_time: int = field(repr=False)  # clock ticks after boot

    @property
    def name(self) -> str:
        return f"pid {self.pid} uid {self.uid}"

    @property
    def process(self) -> str:
        """Names this very process, also after it has ended and its pid was given to another."""
        return f"{self.pid}.{self.start_time}"

    def alive(self) -> bool:
        """Whether it still runs (pidfd_open(2): the descriptor becomes readable when it ends)."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def same_process(self) -> bool:
        """Whether /proc/<pid> is still about this process, and that still is the user who connected.

        A process that became somebody else since, by a setuid program say, would have the groups and the program of the
        one and the user of the other."""
        if not self.alive() or start_time(self.pid) != self.start_time:
            return False
        now = credentials(self.pid)
        return now is not None and (now.uid, now.gid) == (self.uid, self.gid)

    def close(self) -> None:
        os.close(self.pidfd)


def uid_of(connection: socket.socket) -> int:
    """The user at the other end, when it connected: all that a quota needs."""
    return _credentials(connection)[1]


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, gid = _PEERCRED.unpack(raw)
    return pid, uid, gid


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end of `connection`. Raises PermissionDenied if it is gone or cannot be named."""
    pid, uid, gid = _credentials(connection)
    if pid <= 0:
        raise PermissionDenied("the caller is in another pid namespace: the kernel does not name it")
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise PermissionDenied(f"pid {pid} ended before it was looked at") from error
    start = start_time(pid)
    if start is None:
        os.close(pidfd)
        raise PermissionDenied(f"pid {pid} ended before it was looked at")
    return Peer(pid, uid, gid, pidfd, start)


def start_time(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When a process began, in clock ticks after boot: field 22 of /proc/<pid>/stat (proc(5)). None if it is gone.

    The name before it may hold anything, so count from its last bracket."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


class PeerTable:
    """Which peer is behind which private connection. A token is 128 random bits, and forgotten when it closes."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._told: dict[str, Callable[[], None]] = {}

    def add(self, peer: Peer) -> str:
        token = secrets.token_hex(16)
        self._peers[token] = peer
        return token

    def remove(self, token: str) -> None:
        if told := self._told.pop(token, None):
            told()
        if peer := self._peers.pop(token, None):
            peer.close()

    def when_closed(self, name: str, told: Callable[[], None]) -> None:
        """Call `told` once, in the event loop, when this connection ends; there is one at most for each. Raises as
        lookup does."""
        self.lookup(name)
        self._told[name.removeprefix(_PREFIX)] = told

    def lookup(self, name: str) -> Peer:
        """The peer that gRPC calls `name` (context.peer()). Raises PermissionDenied if it did not come by the relay."""
        peer = self._peers.get(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
        if peer is None:
            raise PermissionDenied("this connection did not come through the public socket")
        return peer

    def __len__(self) -> int:
        return len(self._peers)
