"""The doctor looks at the sockets: are they there, does somebody listen, can those reach them who should?"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from citadel.cli.doctor.findings import Finding, fail, ok, skip, warn
from citadel.config import ListenAddress, Settings

_PATIENCE = 2.0  # seconds; a listener on this machine accepts at once


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is behind a unix socket: the process's id, as the kernel says (SO_PEERCRED, unix(7))."""

    pid: int


def listener(path: Path) -> Listener | None:
    """Who listens at `path`; None if nobody does, or we cannot find out."""
    try:
        return _connect(path)
    except OSError:
        return None


def _connect(path: Path) -> Listener | None:
    """As `listener`, but raises OSError if it cannot be tried."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Listener(pid)


def unix_sockets(settings: Settings) -> Iterator[Finding]:
    """Both unix sockets: the file, its mode, and whether somebody answers."""
    admin, workload = settings.sockets.admin, settings.sockets.workload
    for check, path, mode in (
        ("sockets.admin", admin.path, admin.mode),
        ("sockets.workload", workload.path, workload.mode),
    ):
        yield from _socket(check, path, mode)


def _socket(check: str, path: Path, mode: int) -> Iterator[Finding]:
    folder = path.parent
    if not folder.is_dir():
        yield fail(check, f"the folder {folder} of the socket is not there", f"run: mkdir -m 755 {folder}")
        return
    if not path.exists():
        yield skip(check, f"{path} is not there: Citadel is not running")
        return
    if not path.is_socket():
        yield fail(check, f"{path} is not a socket", "remove it: Citadel cannot listen there")
        return
    try:
        alive = _connect(path)
    except PermissionError:
        yield fail(check, f"uid {os.geteuid()} may not connect to {path}", "see sockets.admin.group and allow_uids")
        return
    except TimeoutError:
        yield fail(check, f"{path} takes no connections: whoever listens there hangs", "see its log, then restart it")
        return
    if alive is None:
        yield warn(check, f"{path} is left over: nobody listens there", "nothing: the next start cleans it up")
        return
    actual = stat.S_IMODE(path.stat().st_mode)
    if actual != mode:
        yield warn(check, f"{path} has mode {actual:04o}, and {mode:04o} is configured", "restart Citadel")
    else:
        yield ok(check, f"process {alive.pid} listens at {path} ({actual:04o})")


def http(settings: Settings, running: bool) -> Iterator[Finding]:
    """The HTTP address: ours while Citadel runs, else free."""
    address = settings.http.address
    if address is None:
        return
    if not address.loopback:
        yield warn(
            "sockets.http",
            f"{address} is reachable from other machines, without authentication",
            "bind http.address to loopback, or see that only your monitoring reaches it",
        )
    taken = _answers(address)
    if taken and not running:
        yield fail("sockets.http", f"another program listens on {address}", "stop it, or change http.address")
    elif running and not taken:
        yield fail("sockets.http", f"nobody listens on {address}", "see the log of the running Citadel")
    else:
        yield ok("sockets.http", f"{address} is {'served' if running else 'free'}")


def _answers(address: ListenAddress) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=_PATIENCE):
            return True
    except OSError:
        return False
