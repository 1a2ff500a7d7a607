"""Killed at every transition and started again, a rotation ends in the same state as one that was left in peace."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.test_rotation import SETTINGS, Site
from tests.support import desk
from tests.support.envoys import mesh, wait_for
from tests.support.rotation_driver import Drives

_PLACES = ("decided", "written", "committed", "refreshed")
_STEPS = {
    "whole": ("root.prepare", "root.activate", "root.replaced", "root.remove"),
    "back": ("root.rollback",),
    "given_up": ("root.abandon",),
    "emergency": ("root.activate", "root.revoke"),
    "tainted_under_way": ("root.taint",),
    "tainted_late": ("root.taint",),
    "excused": ("root.excuse",),
    "set_back": ("root.redate",),
    "issuing_rotated": ("ca.rotate",),
    "issuing_tainted": ("ca.taint",),
    "offline": ("root.prepare",),
    "handed_in": (),
    "held": ("root.hold",),
    "cross_signed": (),
    "certified_tainted": (),
    "adopted": ("root.adopt",),
}
POINTS = [
    ("whole", "rotation.root_made"),
    ("whole", "rotation.issuing_made"),
    ("issuing_tainted", "rotation.issuing_tainted"),
    ("cross_signed", "rotation.cross_signed"),
    ("certified_tainted", "rotation.certified_tainted"),
    ("offline", "rotation.requested"),
    ("offline", "rotation.root_brought"),
    ("handed_in", "rotation.root_brought"),
    *((drill, f"rotation.{place}:{step}") for drill, steps in _STEPS.items() for step in steps for place in _PLACES),
]


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drives]:
    with Drives(tmp_path_factory.mktemp("drives"), secrets.token_hex(32)) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(drives: Drives) -> dict[str, Any]:
    """How each ends if nobody kills it."""
    return {drill: drives.live(drives.database(), drill) for drill in _STEPS}


@pytest.mark.parametrize(("drill", "point"), POINTS)
def test_killed_at(drives: Drives, undisturbed: dict[str, Any], drill: str, point: str) -> None:
    database = drives.database()
    assert drives.die(database, drill, point) == signal.SIGKILL
    assert drives.live(database, drill, drives.after(drill)) == undisturbed[drill]


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
                if site.active() == old and not desk.rotations(site.up):
                    site.up.run("root", "rotate", "--detach")  # it died before there was a plan
                wait_for("the end of it", lambda o=old: site.roots()[o] == "removed", 90)  # type: ignore[misc]
        assert sorted(site.roots().values()) == ["active", "removed", "removed", "removed"]
        assert site.up.run("audit", "verify").returncode == 0
