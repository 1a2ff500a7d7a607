"""Sockets on the file system: made safely, cleaned up after a dead owner, never taken from a live one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from citadel.errors import FailedPrecondition, InvalidInput, PermissionDenied, UnsafePermissions

MAX_PATH_BYTES = 107  # unix(7): sun_path has 108 with its final zero
_BACKLOG = 4096  # cut to net.core.somaxconn by the kernel


class Listener:
    """A listening, non-blocking unix socket at `path`, held by a lock beside it. Use as a context.

    Entering raises InvalidInput (the path), FailedPrecondition (it is taken), UnsafePermissions or PermissionDenied.
    """

    def __init__(self, path: Path, *, mode: int, group: int | None = None) -> None:
        self._path = path
        self._mode = mode
        self._group = group
        self._lock = -1
        self._socket: socket.socket | None = None

    def __enter__(self) -> socket.socket:
        if len(os.fsencode(self._path)) > MAX_PATH_BYTES:
            raise InvalidInput(
                f"the socket path {self._path} is longer than {MAX_PATH_BYTES} bytes", mend="choose a shorter one"
            )
        try:
            self._claim()
            self._socket = self._listen()
        except OSError as error:
            self._release()
            raise PermissionDenied(
                f"the socket {self._path} cannot be made: {error.strerror}", mend="check its folder and who owns it"
            ) from error
        except BaseException:
            self._release()
            raise
        return self._socket

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()
            with suppress(OSError):
                self._path.unlink()
        self._release()

    def _claim(self) -> None:
        """Hold a lock beside the socket for life: a dead server's is cleaned away, a live one's is not taken."""
        if not self._path.parent.exists():
            self._path.parent.mkdir(parents=True)
            self._path.parent.chmod(0o755)  # whatever the umask is: who may use the socket, its own mode says
        self._lock = self._open_lock(self._path.with_name(f".{self._path.name}.lock"))
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken() from None
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FailedPrecondition(f"{self._path} is there, and is no socket", mend="move it away")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            if probe.connect_ex(os.fspath(self._path)) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise self._taken()
        self._path.unlink()

    def _open_lock(self, path: Path) -> int:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise UnsafePermissions(f"{path} is a symbolic link", mend="remove it, and see who made it") from None
        if os.fstat(lock).st_uid != os.geteuid():
            os.close(lock)
            raise UnsafePermissions(f"{path} belongs to somebody else", mend="remove it, and see who made it")
        return lock

    def _taken(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"another program listens on {self._path} already", mend="stop it, or choose another socket path"
        )

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            before = os.umask(0o177)  # nobody else may connect before the mode is right
            try:
                listener.bind(os.fspath(self._path))
            finally:
                os.umask(before)
            if self._group is not None:
                os.chown(self._path, -1, self._group)
            self._path.chmod(self._mode)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def private_folder(path: Path) -> Path:
    """Make or check a folder that only we may enter: who could write to it could pose as the server inside.

    Raises UnsafePermissions if it is a link or somebody else's, PermissionDenied if it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise UnsafePermissions(
                f"{path} must be a folder of uid {os.geteuid()}, and is not", mend="remove it, and see who made it"
            )
        path.chmod(0o700)
    except FileExistsError:
        raise UnsafePermissions(f"{path} must be a folder, and is not", mend="remove it, and see who made it") from None
    except OSError as error:
        raise PermissionDenied(f"the folder {path} cannot be made: {error.strerror}") from None
    return path
