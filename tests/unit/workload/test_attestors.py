"""Attestors on real processes and on the texts that the kernel writes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.errors import PermissionDenied
from citadel.workload.attestors import Attestors, UnixAttestor
from citadel.workload.peer import Peer, PeerTable, peer_of
from citadel.workload.upstream import Selector


@contextmanager
def this_process() -> Iterator[Peer]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
        try:
            yield peer
        finally:
            peer.close()


async def test_the_kernel_names_user_group_and_program() -> None:
    with this_process() as peer:
        found = {str(s) for s in await UnixAttestor(discover_path=True, max_hash_size=1 << 30).selectors(peer)}
    program = Path("/proc/self/exe").readlink()
    assert {f"unix:uid:{os.getuid()}", f"unix:gid:{os.getgid()}", f"unix:path:{program}"} <= found
    assert any(s.startswith("unix:sha256:") for s in found)


async def test_path_and_hash_are_not_told_unless_asked_for() -> None:
    with this_process() as peer:
        found = {
            s.value.split(":")[0] for s in await UnixAttestor(discover_path=False, max_hash_size=0).selectors(peer)
        }
    assert not {"path", "sha256"} & found


async def test_a_program_that_was_replaced_at_its_path_has_no_path(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            pidfd = os.pidfd_open(child.pid)
            async with asyncio.timeout(5):
                while Path(f"/proc/{child.pid}/exe").readlink() != program:
                    await asyncio.sleep(0.01)  # until it has exec'ed
            peer = Peer(child.pid, os.getuid(), os.getgid(), pidfd, 0)
            attestor = UnixAttestor(discover_path=True, max_hash_size=0)
            assert Selector("unix", f"path:{program}") in await attestor.selectors(peer)
            program.unlink()
            shutil.copy("/bin/true", program)
            assert not [s for s in await attestor.selectors(peer) if s.value.startswith("path:")]
            peer.close()
        finally:
            child.kill()


class Slow:
    name = "slow"

    async def selectors(self, peer: Peer) -> list[Selector]:
        await asyncio.Event().wait()
        raise AssertionError


class Broken:
    name = "broken"

    async def selectors(self, peer: Peer) -> list[Selector]:
        raise OSError("no such thing")


async def test_a_slow_and_a_broken_attestor_cost_nobody_the_others_selectors() -> None:
    unix = UnixAttestor(discover_path=False, max_hash_size=0)
    with this_process() as peer:
        found = await Attestors([Slow(), Broken(), unix], timeout=timedelta(seconds=0.2)).attest(peer)
    assert Selector("unix", f"uid:{os.getuid()}") in found


async def test_a_process_that_has_ended_is_refused() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        peer = Peer(child.pid, 0, 0, os.pidfd_open(child.pid), 0)
        child.kill()
        child.wait()
        with pytest.raises(PermissionDenied):
            await Attestors([], timeout=timedelta(seconds=1)).attest(peer)
        peer.close()


def test_a_token_is_forgotten_when_its_connection_closes() -> None:
    table = PeerTable()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        token = table.add(peer_of(ours))
        assert table.lookup(f"unix-abstract:{token}").pid == os.getpid()
        table.remove(token)
    for name in (f"unix-abstract:{token}", "unix:", "unix-abstract:", "ipv4:127.0.0.1:1", token):
        with pytest.raises(PermissionDenied):
            table.lookup(name)
