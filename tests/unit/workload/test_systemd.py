"""The systemd attestor against a systemctl that a test writes, and against the real one where there is one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from citadel.errors import CitadelError, Unavailable
from citadel.workload.attestors import SystemdAttestor
from citadel.workload.peer import Peer
from tests.support.procfs import FakeProc

CART = "0::/system.slice/cart.service\n"
TOLD = """\
Id=cart.service
FragmentPath=/etc/systemd/system/cart.service
ControlGroup=/system.slice/cart.service
"""
Make = Callable[[str], SystemdAttestor]


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def with_systemctl(tmp_path: Path, proc: FakeProc) -> Make:
    def make(script: str) -> SystemdAttestor:
        program = tmp_path / "systemctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return SystemdAttestor(program, booted=tmp_path, timeout=2, proc=proc.root)

    return make


def _say(text: str) -> str:
    return f"cat <<'END'\n{text}END"


async def _values(attestor: SystemdAttestor, peer: Peer) -> set[str]:
    return {str(selector) for selector in await attestor.selectors(peer)}


async def test_unit_and_file_are_told_in_spires_words(with_systemctl: Make, proc: FakeProc) -> None:
    found = await _values(with_systemctl(_say(TOLD)), proc.process(7, CART))
    assert found == {"systemd:id:cart.service", "systemd:fragment_path:/etc/systemd/system/cart.service"}


async def test_a_process_below_its_units_group_is_in_the_unit(with_systemctl: Make, proc: FakeProc) -> None:
    peer = proc.process(7, "0::/system.slice/cart.service/payload/evil.service\n")
    assert "systemd:id:cart.service" in await _values(with_systemctl(_say(TOLD)), peer)


async def test_the_unit_is_asked_for_by_its_own_name_and_cannot_become_an_option(
    with_systemctl: Make, proc: FakeProc, tmp_path: Path
) -> None:
    peer = proc.process(7, "0::/system.slice/_memory.service\n")
    await with_systemctl(f'echo "$@" > {tmp_path}/arguments').selectors(peer)
    assert (tmp_path / "arguments").read_text().endswith(" -- memory.service\n")


async def test_a_transient_unit_has_no_file(with_systemctl: Make, proc: FakeProc) -> None:
    told = "Id=cart.service\nFragmentPath=\nControlGroup=/system.slice/cart.service\n"
    assert await _values(with_systemctl(_say(told)), proc.process(7, CART)) == {"systemd:id:cart.service"}


@pytest.mark.parametrize(
    "told",
    [
        "Id=cart.service\nFragmentPath=/x\nControlGroup=\n",  # it does not run
        "Id=cart.service\nFragmentPath=/x\nControlGroup=/other.slice/cart.service\n",
        "Id=cart.service\nFragmentPath=/x\n",
        "ControlGroup=/system.slice\n",
        "\0\xff garbage without an equals sign",
        "",
    ],
)
async def test_a_group_that_systemd_does_not_know_as_the_units_proves_nothing(
    with_systemctl: Make, proc: FakeProc, told: str
) -> None:
    assert await _values(with_systemctl(_say(told)), proc.process(7, CART)) == set()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 60", "within 2 s"),
        ("yes Id=cart.service", "longer than 65536 bytes"),
        ("exit 1", "ended with status 1"),
        ("kill -9 $$", "ended with status -9"),
    ],
)
async def test_a_slow_huge_or_failing_systemctl_is_no_answer_and_does_not_stay(
    with_systemctl: Make, proc: FakeProc, script: str, why: str
) -> None:
    with pytest.raises(Unavailable, match=why):
        await with_systemctl(script).selectors(proc.process(7, CART))


async def test_without_systemd_or_systemctl_there_are_no_units(tmp_path: Path, proc: FakeProc) -> None:
    peer = proc.process(7, CART)
    assert await SystemdAttestor(booted=tmp_path / "absent", proc=proc.root).selectors(peer) == []
    with pytest.raises(CitadelError, match="cannot be run: No such file"):
        await SystemdAttestor(tmp_path / "absent", booted=tmp_path, proc=proc.root).selectors(peer)


async def test_outside_of_units_systemd_is_not_even_asked(with_systemctl: Make, proc: FakeProc) -> None:
    assert await with_systemctl("exit 1").selectors(proc.process(7, "0::/\n")) == []


@pytest.mark.root
async def test_against_the_real_systemd() -> None:
    if not Path("/run/systemd/system").is_dir() or os.getuid() != 0:
        pytest.skip("systemd does not run here")
    unit = "citadel-test-unit"
    subprocess.run(["systemd-run", f"--unit={unit}", "sleep", "60"], check=True, capture_output=True)
    try:
        show = ["systemctl", "show", "--value", "--property=MainPID", unit]
        pid = int(subprocess.run(show, check=True, capture_output=True, text=True).stdout)
        found = await _values(SystemdAttestor(), Peer(pid, 0, 0, -1, 0))
    finally:
        subprocess.run(["systemctl", "stop", unit], check=False, capture_output=True)
    assert f"systemd:id:{unit}.service" in found
