"""Peers: the process at the other end, that very process, and still the user who connected."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.errors import PermissionDenied
from citadel.process import credentials
from citadel.workload.attestors import Attestors, UnixAttestor
from citadel.workload.peer import Peer, peer_of, start_time

# Connects, says so, and after each line that it is told does what that says (as Python).
_CALLER = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print("connected", flush=True)
for line in sys.stdin:
    exec(line); print("done", flush=True)
"""


class Caller:
    """Another process that has connected to us."""

    def __init__(self, process: subprocess.Popen[str], connection: socket.socket) -> None:
        self.process, self.connection = process, connection

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def calling(folder: Path) -> Iterator[Caller]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        command = [sys.executable, "-c", _CALLER, str(folder / "socket")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            connection, _ = listener.accept()
            with connection:
                assert process.stdout is not None
                assert process.stdout.readline() == "connected\n"
                try:
                    yield Caller(process, connection)
                finally:
                    process.kill()


@contextmanager
def peer(connection: socket.socket) -> Iterator[Peer]:
    found = peer_of(connection)
    try:
        yield found
    finally:
        found.close()


def test_a_peer_is_who_connected(tmp_path: Path) -> None:
    with calling(tmp_path) as caller, peer(caller.connection) as found:
        assert (found.pid, found.uid, found.gid) == (caller.process.pid, os.geteuid(), os.getegid())
        assert found.same_process()


def test_a_peer_that_ended_is_nobody_any_more(tmp_path: Path) -> None:
    with calling(tmp_path) as caller, peer(caller.connection) as found:
        caller.process.kill()
        caller.process.wait()
        assert not found.same_process()
        with pytest.raises(PermissionDenied, match="ended before it was looked at"):
            peer_of(caller.connection)


def test_who_got_the_pid_of_a_peer_that_ended_is_not_that_peer(tmp_path: Path) -> None:
    last = Path("/proc/sys/kernel/ns_last_pid")
    if os.geteuid() != 0 or not os.access(last, os.W_OK):
        pytest.skip("the next pid can be chosen by root only, and not on every kernel")
    with calling(tmp_path) as caller, peer(caller.connection) as found:
        caller.process.kill()
        caller.process.wait()
        for _ in range(50):
            last.write_text(str(found.pid - 1))
            with subprocess.Popen(["/bin/sleep", "60"]) as impostor:
                try:
                    if impostor.pid == found.pid:
                        assert start_time(found.pid) is not None
                        assert credentials(found.pid) is not None
                        assert not found.same_process()
                        return
                finally:
                    impostor.kill()
    pytest.skip("other processes took the pid again and again")


async def test_who_became_another_user_since_is_refused(tmp_path: Path) -> None:
    """Else its groups, read now, and its user, from then, would be those of two different people."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    attestors = Attestors([UnixAttestor(discover_path=False, max_hash_size=0)], timeout=timedelta(seconds=5))
    with calling(tmp_path) as caller, peer(caller.connection) as found:
        assert await attestors.attest(found)
        await asyncio.to_thread(caller.do, "os.setgroups([12345]); os.setresgid(7, 7, 7)")
        with pytest.raises(PermissionDenied, match="has ended, or became another user"):
            await attestors.attest(found)
        await asyncio.to_thread(caller.do, "os.setresuid(65534, 65534, 65534)")
        with pytest.raises(PermissionDenied):
            await attestors.attest(found)


def test_a_name_with_brackets_and_spaces_does_not_hide_when_a_process_began(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 2"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert (start_time(process.pid) or 0) >= (start_time(os.getpid()) or 0)
        finally:
            process.kill()


@pytest.mark.parametrize(
    "name", ["\\rGroups: 0 27", "\\rUid: 0 0", "\\rUid:", "\\rGid: x", "\\x0bGroups: 0", "\\nGroups: 0"]
)
async def test_a_name_that_looks_like_lines_of_the_kernel_says_nothing(tmp_path: Path, name: str) -> None:
    attestor = UnixAttestor(discover_path=False, max_hash_size=0)
    with calling(tmp_path) as caller, peer(caller.connection) as found:
        before = await attestor.selectors(found)
        await asyncio.to_thread(caller.do, f"import ctypes; ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)")
        assert await attestor.selectors(found) == before
        assert found.same_process()


def test_of_a_process_that_is_not_there_nothing_is_known() -> None:
    assert start_time(1 << 29) is None
    assert credentials(1 << 29) is None
