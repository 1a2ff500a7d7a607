"""The command line when what answers is not what it expects: one sentence, the right exit code, in bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.odd_server import listening
from tests.support.up import command

_PATIENCE = 30.0


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:  # short: it is a socket's path
        yield Path(folder) / "s"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")}
    return subprocess.run(command(*args), env=env, capture_output=True, text=True, timeout=_PATIENCE)


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("older", 7, "does not know this call; if it is the admin socket, restart Citadel"),
        ("dies", 6, "was lost; see whether Citadel still runs"),
        ("garbage", 7, "is not this Citadel's admin API; name the admin socket with --socket"),
        ("http", 6, "was lost; see whether"),
        ("closes", 6, "was lost; see whether"),
        ("noise", 6, "was lost; see whether"),
        ("silent", 6, "says nothing; see its log"),
    ],
)
def test_a_wrong_or_dying_server_is_one_sentence(path: Path, kind: str, code: int, said: str) -> None:
    with listening(kind, path):
        ended = run("status", "--socket", path)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert str(path) in line
    assert said in line


def test_ctrl_c_ends_a_call_that_hangs(path: Path) -> None:
    with listening("slow", path) as wait_until_called:
        process = subprocess.Popen(
            command("entry", "list", "--socket", path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until_called()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out, err) == (130, "", "")
