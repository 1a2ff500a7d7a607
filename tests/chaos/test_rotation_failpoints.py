"""Killed at every transition and started again, a rotation ends in the same state as one that was left in peace."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_rotation import SETTINGS, Site
from tests.support.envoys import mesh, wait_for

_PLACES = ("decided", "written", "committed", "refreshed")
_STEPS = {
    "whole": ("root.prepare", "root.activate", "root.replaced", "root.remove"),
    "back": ("root.rollback",),
    "emergency": ("root.activate", "root.revoke"),
}
POINTS = [
    ("whole", "rotation.root_made"),
    ("whole", "rotation.issuing_made"),
    *((what, f"rotation.{place}:{step}") for what, steps in _STEPS.items() for step in steps for place in _PLACES),
]


def drive(database: Path, kek: str, what: str, hours: int, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.rotation_driver", str(database), kek, what, str(hours)]
    env = os.environ | {"FAILPOINT": failpoint}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


def end_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each ends if nobody kills it."""
    kek = secrets.token_hex(32)
    return {what: end_of(drive(tmp_path_factory.mktemp(what) / "db" / "c.db", kek, what, 0)) for what in _STEPS}


@pytest.mark.parametrize(("what", "point"), POINTS)
def test_killed_at(tmp_path: Path, undisturbed: dict[str, Any], what: str, point: str) -> None:
    database, kek = tmp_path / "db" / "c.db", secrets.token_hex(32)
    killed = drive(database, kek, what, 0, point)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr)
    assert end_of(drive(database, kek, what, 24)) == undisturbed[what]


@pytest.mark.envoy
@pytest.mark.timeout(500)
def test_killed_at_transitions_under_load() -> None:
    with mesh(SETTINGS) as made:
        site = Site(made)
        with site.undisturbed() as load:
            for point in ("rotation.root_made", "rotation.committed:root.activate", "rotation.written:root.remove"):
                old = site.active()
                site.up.end()
                site.up.start(failpoint=point)
                site.up.run("root", "rotate", "--detach", check=False)  # it may die in the middle of this
                assert wait_for("its death", lambda: site.up.process.poll(), 60) == -signal.SIGKILL
                load.wait_for(5)
                site.up.start()
                if site.active() == old and not site.up.json("root", "status"):
                    site.up.run("root", "rotate", "--detach")  # it died before there was a plan
                wait_for("the end of it", lambda o=old: site.roots()[o] == "removed", 90)  # type: ignore[misc]
        assert sorted(site.roots().values()) == ["active", "removed", "removed", "removed"]
        assert site.up.run("audit", "verify").returncode == 0
