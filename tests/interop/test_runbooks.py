"""The runbook's own commands, in its order, against a Citadel that runs: what the page says comes true."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.interop.test_rotation import SETTINGS
from tests.support.up import QUICK, Up, Workload, me, running

PAGE = (Path(__file__).parents[2] / "docs" / "runbooks" / "compromised-root.md").read_text()


def commands(step: int) -> list[str]:
    """Those that the page shows under this number."""
    (section,) = re.findall(rf"^## {step}\. .*?(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    found = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert found, f"step {step} shows no command"
    return found


def follow(up: Up, step: int, skid: str) -> list[subprocess.CompletedProcess[str]]:
    words = [shlex.split(line.replace("SKID", skid)) for line in commands(step)]
    assert all(first == "citadel" for first, *_ in words)
    return [up.run(*rest) for _, *rest in words]


def roots(up: Up) -> dict[str, str]:
    return {one["skid"]: one["state"] for one in up.json("ca", "list") if one["kind"] == "root"}


def active(up: Up) -> str:
    return next(skid for skid, state in roots(up).items() if state == "active")


@pytest.mark.timeout(240)
def test_a_compromised_root_by_the_page(tmp_path: Path) -> None:
    with running(tmp_path / "c", QUICK + SETTINGS) as up:
        old = active(up)
        (listed,) = follow(up, 1, old[:8])
        assert old in listed.stdout
        follow(up, 2, old[:8])
        assert active(up) == old, "a dry run"
        follow(up, 3, old[:8])
        assert roots(up)[old] == "revoked"
        listed, verified, bundle = follow(up, 5, old[:8])
        assert "revoked" in listed.stdout
        assert verified.returncode == 0
        assert bundle.stdout.count("BEGIN CERTIFICATE") == 1


@pytest.mark.timeout(240)
def test_going_on_without_who_does_not_answer_by_the_page(tmp_path: Path) -> None:
    with running(tmp_path / "c", QUICK + SETTINGS) as up:
        up.register("/web", me())
        with Workload(up.workload_socket, "ROOTCA", "default", node="deaf") as deaf:
            deaf.take()
            old = active(up)
            up.run("root", "prepare")  # what step 3 begins with, where nobody said --yes
            assert up.run("root", "activate", check=False).returncode != 0
            status, _ = follow(up, 4, old[:8])
            assert "deaf@" in status.stdout
            assert active(up) != old
