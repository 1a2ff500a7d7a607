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
from citadel.workload.attestors.docker import below, container_of
from citadel.workload.attestors.systemd import unit_of
from citadel.workload.peer import Peer, PeerTable, peer_of
from citadel.workload.upstream import Selector

ID = "a" * 64


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
            peer = Peer(child.pid, os.getuid(), os.getgid(), pidfd, "")
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
        peer = Peer(child.pid, 0, 0, os.pidfd_open(child.pid), "")
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


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/cart.service\n", "cart.service"),
        ("0::/system.slice/cart.service/payload/x.service\n", "cart.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service\n", "user@1000.service"),
        ("1:name=systemd:/system.slice/old.service\n0::/\n", "old.service"),
        ("0::/\n", None),
    ],
)
def test_the_unit_is_the_outermost_one_since_users_name_those_below(text: str, unit: str | None) -> None:
    assert unit_of(text) == unit


@pytest.mark.parametrize(
    ("text", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"4:memory:/docker/{ID}\n3:cpu:/docker/{ID}\n", ID),
        (f"0::/docker/{ID}/docker/{'b' * 64}\n", None),
        ("0::/system.slice/docker.service\n", None),
    ],
)
def test_a_container_is_named_only_if_there_is_one_name(text: str, container: str | None) -> None:
    assert container_of(text) == container


def test_a_group_that_only_looks_like_the_containers_is_not_below_it() -> None:
    true = f"0::/system.slice/docker-{ID}.scope\n"
    forged = f"0::/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope\n"
    assert below(true, true)
    assert below(f"0::/system.slice/docker-{ID}.scope/inner\n", true)
    assert not below(forged, true)
    assert not below(f"0::/system.slice/docker-{ID}.scopeevil\n", true)
