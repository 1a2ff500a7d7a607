"""Paths and hashes of programs: of the very file that runs, never in the way of anybody else, remembered safely."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from citadel.errors import CitadelError, ResourceExhausted, Unavailable
from citadel.workload.attestors import UnixAttestor, executable
from citadel.workload.attestors.answers import Answers, in_thread
from citadel.workload.attestors.executable import Executables
from citadel.workload.peer import Peer
from tests.support.procfs import FakeProc

BIG = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


def running(proc: FakeProc, pid: int, program: Path, *, start: int = 100) -> Peer:
    """A process of the written /proc that runs `program`."""
    peer = proc.process(pid, start=start)
    (proc.root / str(pid) / "exe").symlink_to(program)
    return peer


def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on what is on disk was written long ago."""
    later = time.time_ns() + 3600 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)


async def test_path_and_hash_are_those_of_the_file_that_runs(proc: FakeProc, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/true\n" * 1000)
    found = await Executables(size_limit=BIG, proc=proc.root).look(running(proc, 7, program))
    assert found == [f"path:{program}", f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"]


@pytest.mark.parametrize(("limit", "hashed"), [(0, False), (99, False), (100, True)])
async def test_a_program_above_the_limit_has_no_hash(proc: FakeProc, tmp_path: Path, limit: int, hashed: bool) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x" * 100)
    found = await Executables(size_limit=limit, proc=proc.root).look(running(proc, 7, program))
    assert any(value.startswith("sha256:") for value in found) is hashed


async def test_a_program_is_hashed_once_however_many_run_it(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x" * 100)
    an_hour_later(monkeypatch)
    programs = Executables(size_limit=BIG, proc=proc.root)
    first = await programs.look(running(proc, 7, program))
    monkeypatch.setattr(hashlib, "sha256", None)  # would fail now
    assert await programs.look(running(proc, 8, program)) == first


async def test_a_program_that_was_overwritten_is_hashed_again_even_with_its_times_set_back(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"good" * 100)
    times = program.stat()
    an_hour_later(monkeypatch)
    programs = Executables(size_limit=BIG, proc=proc.root)
    await programs.look(running(proc, 7, program))
    program.write_bytes(b"evil" * 100)
    os.utime(program, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = await programs.look(replace(running(proc, 8, program)))
    assert f"sha256:{hashlib.sha256(b'evil' * 100).hexdigest()}" in found


async def test_what_was_written_a_moment_ago_is_not_remembered(proc: FakeProc, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x" * 100)
    programs = Executables(size_limit=BIG, proc=proc.root)
    await programs.look(running(proc, 7, program))
    assert not programs._hashes


async def test_what_is_remembered_is_bounded(proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "_REMEMBERED", 3)
    programs = Executables(size_limit=BIG, proc=proc.root)
    for number in range(5):
        program = tmp_path / f"program{number}"
        program.write_bytes(b"x" * 100)
        an_hour_later(monkeypatch)
        await programs.look(running(proc, number + 1, program))
    assert len(programs._hashes) == 3


async def test_no_path_is_told_of_a_program_that_is_not_there_any_more(proc: FakeProc, tmp_path: Path) -> None:
    shutil.copy("/bin/sleep", tmp_path / "program")
    with subprocess.Popen([tmp_path / "program", "60"]) as child:
        try:
            async with asyncio.timeout(5):
                while Path(f"/proc/{child.pid}/exe").readlink() != tmp_path / "program":
                    await asyncio.sleep(0.01)  # until it has exec'ed
            (tmp_path / "program").unlink()
            found = await Executables(size_limit=BIG).look(Peer(child.pid, os.getuid(), 0, -1, 0))
        finally:
            child.kill()
    assert [value.split(":")[0] for value in found] == ["sha256"]


async def test_a_process_that_is_gone_has_no_program(proc: FakeProc) -> None:
    with pytest.raises(Unavailable, match="the program of process 7 cannot be read"):
        await Executables(size_limit=BIG, proc=proc.root).look(proc.process(7))


@contextmanager
def hanging(proc: FakeProc, tmp_path: Path, count: int, uid: int) -> Iterator[list[Peer]]:
    """Processes whose programs lie where reading never ends: a fifo that nobody writes to."""
    fifo = tmp_path / f"fifo{uid}"
    os.mkfifo(fifo)
    peers = [replace(running(proc, uid * 1000 + n, fifo), uid=uid) for n in range(count)]
    try:
        yield peers
    finally:
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        time.sleep(0.1)  # those who wait in open(2) wake up one after another
        os.close(writer)


async def test_programs_that_hang_cost_their_own_user_the_path_and_nobody_anything_else(
    proc: FakeProc, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x" * 100)
    attestor = UnixAttestor(discover_path=True, max_hash_size=BIG, proc=proc.root)
    with hanging(proc, tmp_path, 20, uid=6) as stuck:
        waiting = [asyncio.ensure_future(attestor.selectors(peer)) for peer in stuck]
        await asyncio.sleep(0)
        other = {str(s) for s in await attestor.selectors(running(proc, 7, program))}
        theirs = [{str(s) for s in found} for found in await asyncio.gather(*waiting)]
    assert f"unix:path:{program}" in other
    assert all("unix:uid:6" in found and not any("path" in s for s in found) for found in theirs)


async def test_one_users_programs_that_hang_are_counted(
    proc: FakeProc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executable, "_LOOKS_PER_UID", 3)
    programs = Executables(size_limit=BIG, proc=proc.root)
    with hanging(proc, tmp_path, 4, uid=6) as stuck:
        waiting = [asyncio.ensure_future(programs.look(peer)) for peer in stuck]
        with pytest.raises(ResourceExhausted, match="3 programs of uid 6 are being looked at already"):
            await waiting[-1]
        for one in waiting:
            one.cancel()


async def test_whoever_asks_the_same_at_once_shares_one_answer() -> None:
    asked: list[str] = []

    async def ask(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0)
        return key.upper()

    answers = Answers(ask, seconds=60, most=10)
    assert await asyncio.gather(*(answers.get("a") for _ in range(5))) == ["A"] * 5
    assert await answers.get("a") == "A"
    assert asked == ["a"]


async def test_a_failure_is_not_remembered_and_a_question_outlives_who_gave_up() -> None:
    started = 0
    go_on = asyncio.Event()

    async def ask(_: str) -> int:
        nonlocal started
        started += 1
        await go_on.wait()
        if started == 1:
            raise Unavailable("not yet")
        return started

    answers = Answers(ask, seconds=60, most=10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await answers.get("a")
    go_on.set()
    with pytest.raises(Unavailable):
        await answers.get("a")  # the first one's answer
    assert await answers.get("a") == 2


async def test_questions_without_an_answer_are_bounded() -> None:
    async def ask(_: int) -> None:
        await asyncio.Event().wait()

    answers = Answers(ask, seconds=60, most=2)
    waiting = [asyncio.ensure_future(answers.get(number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 questions wait"):
        await answers.get(3)
    for one in waiting:
        one.cancel()


async def test_a_thread_gives_back_what_its_work_gave_or_raised() -> None:
    assert await in_thread(lambda: 5) == 5

    def fail() -> None:
        raise CitadelError("no")

    with pytest.raises(CitadelError, match="no"):
        await in_thread(fail)
