"""A worker is heard of, or ended and started again: whatever it does, by stand-ins that do it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.errors import InvalidInput
from citadel.server.workers import process
from citadel.server.workers.process import Behind, WorkerProcess
from citadel.server.workers.reports import Report

WELL = 'report(answers=True, version="v1", records=[{"id": "1", "outcome": "deny"}]); time.sleep(60)'
PROGRAM = """
import json, os, signal, socket, sys, time
link = socket.socket(fileno=int(sys.argv[1]))
def report(**more):
    line = {"answers": False, "version": "", "callers": 0, "counts": {}, "records": [], "lost": {}} | more
    link.sendall(json.dumps(line).encode() + b"\\n")
"""


class Scene:
    def __init__(self, *bodies: str, most_memory: int) -> None:
        """`bodies`: what the first process does, the second, and so on; the last stays."""
        self.bodies = list(bodies)
        self.heard: list[Report] = []
        self.ends: list[str] = []
        self.started: list[asyncio.subprocess.Process] = []
        self.worker = WorkerProcess(
            "worker-1", self.start, self.heard.append, self.ends.append, most_memory=most_memory
        )

    async def start(self, link: socket.socket) -> asyncio.subprocess.Process:
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        number = link.fileno()
        one = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM + body, str(number), pass_fds=(number,)
        )
        self.started.append(one)
        return one

    async def until_it_answers(self) -> None:
        while not self.worker.last.answers:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(monkeypatch: pytest.MonkeyPatch, *bodies: str, most_memory: int = 1 << 40) -> AsyncIterator[Scene]:
    monkeypatch.setattr(process, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(process, "_ONE_MORE_SECOND", 0.01)
    made = Scene(*bodies, most_memory=most_memory)
    task = asyncio.create_task(made.worker.keep())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert all(one.returncode is not None for one in made.started)


@pytest.mark.parametrize(
    ("body", "word", "why"),
    [
        ("sys.exit(3)", "ended", "it ended with 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended", "it ended with -9"),
        ("report(); time.sleep(60)", "silent", "it was not heard of"),
        ("link.sendall(b'no report\\n'); time.sleep(60)", "unreadable", "a worker's report cannot be read"),
        ("report(records=[7]); time.sleep(60)", "unreadable", "records that are none"),
        ("link.close(); time.sleep(60)", "silent", "it closed its link"),
    ],
)
async def test_a_worker_that_is_not_well_is_started_again(
    monkeypatch: pytest.MonkeyPatch, body: str, word: str, why: str
) -> None:
    monkeypatch.setattr(process, "SILENT_SECONDS", 0.2 if word == "silent" else 60)
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.2)
    async with scene(monkeypatch, body, WELL) as made:
        await made.until_it_answers()
        assert made.ends == [word]
        assert why in made.worker.fault


async def test_one_that_takes_too_much_memory_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch, "report(); time.sleep(60)", most_memory=1) as made:
        while len(made.started) < 2:
            await asyncio.sleep(0.01)
        assert made.ends[0] == "too-large"


async def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(monkeypatch, WELL) as made:
        await made.until_it_answers()
        start, made.worker._start = made.worker._start, _no_program
        made.started[0].kill()
        while len(made.ends) < 2:
            await asyncio.sleep(0.01)
        assert made.worker.fault == "it could not be started: No such file or directory"
        made.worker._start = start
        await made.until_it_answers()


async def _no_program(link: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("/no/such/program")


async def test_what_it_tells_at_its_end_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    last = (
        "signal.signal(signal.SIGTERM, lambda *_: (report(version='last'), sys.exit())); "
        "report(answers=True); time.sleep(60)"
    )
    async with scene(monkeypatch, last) as made:
        await made.until_it_answers()
    assert made.heard[-1].version == "last"
    assert made.ends == []


@given(st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'{"answers": 1}']))
def test_a_report_is_read_or_refused(line: bytes) -> None:
    with pytest.raises(InvalidInput):
        Report.parse(line)


def test_a_report_comes_back_as_it_was() -> None:
    report = Report(True, "v", 7, {"decisions": []}, ({"id": "1", "outcome": "deny"},), {"allow": 3})
    assert Report.parse(report.line()) == report


def test_who_is_behind_for_long_is_named() -> None:
    workers = [WorkerProcess(name, _no_program, print, print, most_memory=1) for name in ("worker-1", "worker-2")]
    behind = Behind()
    workers[0].last = Report(True, "new", 2)
    workers[1].last = Report(True, "old", 2)
    for now, fault in ((0, ""), (30, ""), (31, "worker-2 has decided by other policies than those in force for 31 s")):
        behind.look(workers, "new", 2, now)
        assert behind.fault == fault
    workers[1].last = Report(True, "new", 1)
    behind.look(workers, "new", 2, 32)
    assert "other registrations" in behind.fault
    workers[1].last = Report(True, "new", 2)
    behind.look(workers, "new", 2, 33)
    assert behind.fault == ""
