"""A command as hook: what it is told, what counts as yes, and that it ends with its time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.ca.rotation.hooks import Checked, Question, Verdict
from citadel.hooks import CommandHook, LeasedHook
from tests.support.clock import ManualClock
from tests.support.jobs import MemoryLeases

ASKED = Question(Checked.ACTIVATE, "example.org", "p1", "aa", "bb", "uid:0", "because", planned=True)


def ask(script: str, timeout: float = 20.0) -> Verdict:
    return asyncio.run(CommandHook(["/bin/sh", "-c", script], timeout=timeout).ask(ASKED))


def test_it_is_told_what_is_to_happen_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITADEL_STORE__URL", "postgresql://user:secret@host/db")
    told, env = tmp_path / "told", tmp_path / "env"
    assert ask(f"cat > {told}; env > {env}; pwd >> {env}; echo fine") == Verdict(True, "fine")
    assert json.loads(told.read_text()) == {
        "version": 1,
        "phase": "activate",
        "trust_domain": "example.org",
        "plan": "p1",
        "incoming": "aa",
        "outgoing": "bb",
        "actor": "uid:0",
        "reason": "because",
        "planned": True,
    }
    assert "CITADEL_PHASE=activate\n" in env.read_text()
    assert "secret" not in env.read_text()
    assert env.read_text().endswith("\n/\n")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "sh ended with status 3"),
        ("echo canary is red >&2; exit 1", "sh ended with status 1: canary is red"),
        ("kill -9 $$", "sh ended with signal 9"),
        (r"printf 'a\033[31m\nb'; exit 1", "sh ended with status 1: a?[31m b"),
        ("head -c 100000 /dev/zero | tr '\\0' x; exit 0", "sh wrote more than 65536 bytes"),
    ],
)
def test_all_else_says_no_and_why(script: str, why: str) -> None:
    assert ask(script) == Verdict(False, why)


def test_a_long_answer_is_cut() -> None:
    assert len(ask("head -c 5000 /dev/zero | tr '\\0' x; exit 1").why) < 400


def test_a_program_that_is_not_there_says_no() -> None:
    verdict = asyncio.run(CommandHook(["/nowhere/check"], timeout=5).ask(ASKED))
    assert verdict == Verdict(False, "check could not be run: No such file or directory")


def test_it_and_what_it_started_end_with_its_time(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    verdict = ask(f"sleep 1000 & echo $! > {pid}; wait", timeout=1.0)
    assert verdict == Verdict(False, "sh gave no answer within 1 s")
    ended = Path(f"/proc/{int(pid.read_text())}/status")
    end = time.monotonic() + 10
    while ended.exists() and "State:\tZ" not in ended.read_text():
        assert time.monotonic() < end, "its child goes on"
        time.sleep(0.01)


def test_its_own_end_counts_whatever_it_leaves_behind(tmp_path: Path) -> None:
    left = tmp_path / "left"
    began = time.monotonic()
    leaves = f"setsid sh -c 'echo $$ > {left}; exec sleep 1000' &"
    verdict = ask(f"echo fine; {leaves} until [ -s {left} ]; do sleep 0.01; done", timeout=20.0)
    os.kill(int(left.read_text()), signal.SIGKILL)  # it left the session, and kept our pipe open
    assert verdict.passed
    assert time.monotonic() - began < 15, "it was waited for to the end of its time"


def test_who_may_not_kill_it_any_more_gets_an_answer_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that became another user (sudo, setuid)."""

    def refuse(group: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    kill, pid = os.killpg, tmp_path / "pid"
    monkeypatch.setattr(os, "killpg", refuse)
    verdict = ask(f"echo $$ > {pid}; exec sleep 1000", timeout=1.0)
    assert verdict == Verdict(False, "sh gave no answer within 1 s")
    with suppress(ProcessLookupError):
        kill(int(pid.read_text()), signal.SIGKILL)


def test_no_file_to_ask_with_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(name: str, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    assert ask("exit 0") == Verdict(False, "sh could not be run: Too many open files")


@pytest.mark.parametrize("weak", ["program", "folder"])
def test_a_program_that_others_could_replace_is_not_run(tmp_path: Path, weak: str) -> None:
    folder, ran = tmp_path / "hooks", tmp_path / "ran"
    folder.mkdir()
    program = folder / "check"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o777 if weak == "program" else 0o755)
    folder.chmod(0o777 if weak == "folder" else 0o755)
    verdict = asyncio.run(CommandHook([str(program)], timeout=20).ask(ASKED))
    at = program if weak == "program" else folder
    assert verdict == Verdict(
        False, f"check was not run: {at} may be written to by everybody (mode 0777); run: chmod go-w {at}"
    )
    assert not ran.exists()


async def test_at_one_server_a_command_and_what_goes_on_by_itself_do_not_ask_at_once() -> None:
    inside: list[Verdict] = []

    class Asks:
        async def ask(self, question: Question) -> Verdict:
            inside.append(await hook.ask(question))
            inside.append(await hook.ask(question))  # the first refusal gave nothing back that is not its own
            return Verdict(True)

    hook = LeasedHook(Asks(), MemoryLeases(), "one", ManualClock(), timedelta(seconds=5))
    assert (await hook.ask(ASKED)).passed
    assert [verdict.pending for verdict in inside] == [True, True]


async def test_of_several_servers_one_asks() -> None:
    class Slow:
        async def ask(self, question: Question) -> Verdict:
            return await other.ask(question)

    clock, leases = ManualClock(), MemoryLeases()
    other = LeasedHook(CommandHook(["/bin/true"], timeout=5), leases, "two", clock, timedelta(seconds=5))
    first = LeasedHook(Slow(), leases, "one", clock, timedelta(seconds=5))
    assert (await first.ask(ASKED)).pending
    assert await other.ask(ASKED) == Verdict(True)
