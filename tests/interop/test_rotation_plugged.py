"""Rotation to a plugged-in root, back to one of ours, and what adoption leaves: under load nothing fails."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.test_rotation import ROTATION_SECONDS, SETTINGS, Site
from tests.support import desk
from tests.support.cacerts import make_ca, plug
from tests.support.envoys import mesh, wait_for

pytestmark = pytest.mark.envoy


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cr-", dir="/tmp") as folder:
        yield Path(folder) / "cacerts"


def configured(folder: Path, plugged: str = "command") -> str:
    root = f'[root]\nkind = "cacerts"\ncacerts_dir = "{folder}"\n[jobs]\nplugged_ca = "1s"\n'
    return f'{SETTINGS}plugged = "{plugged}"\n{root}'


def subject(site: Site) -> str:
    """Of the root in force."""
    (one,) = [one for one in desk.authorities(site.up) if (one["kind"], one["state"]) == ("root", "active")]
    return str(one["subject"])


def lies_ready(site: Site, name: str) -> bool:
    found = [one for one in desk.authorities(site.up) if one["subject"] == f"CN={name}"]
    return [one["state"] for one in found] == ["prepared"]


def test_to_a_plugged_in_root_and_one_that_signs_itself_and_back_to_one_of_ours(folder: Path) -> None:
    plug(folder, make_ca("first ca", make_ca("first root")))
    with mesh(configured(folder)) as made:
        site = Site(made)
        with site.undisturbed():
            refused = site.refused("rotate")
            assert "no plugged-in root lies ready" in refused
            plug(folder, make_ca("second ca", make_ca("second root")))
            wait_for("the second root", lambda: lies_ready(site, "second ca"))
            assert "second" not in subject(site)
            assert "would go into the trust bundle" in site.up.run("root", "prepare", "--dry-run").stdout
            site.rotate()
            assert subject(site) == "CN=second root"
            plug(folder, make_ca("third root"))
            wait_for("the third root", lambda: lies_ready(site, "third root"))
            site.up.run("root", "rotate", "--to", "cacerts", "--timeout", ROTATION_SECONDS)
            assert subject(site) == "CN=third root"
            site.up.run("root", "rotate", "--to", "disk", "--timeout", ROTATION_SECONDS)
            assert "third" not in subject(site)
            assert sorted(site.roots().values()) == ["active", "removed", "removed", "removed"]


def test_one_that_was_abandoned_is_taken_up_by_command_alone_others_by_themselves(folder: Path) -> None:
    first = make_ca("first root")
    second = make_ca("second root")
    plug(folder, make_ca("first ca", first), roots=[second])
    with mesh(configured(folder, "automatic")) as made:
        site = Site(made)
        with site.undisturbed():
            plug(folder, make_ca("second ca", second), roots=[first])  # everybody has had it from the start
            wait_for("the second root", lambda: subject(site) == "CN=second root")
            wait_for("a plan", lambda: desk.rotations(site.up, all_of_them=True))
            plan = site.wait_for_phase("done")
            assert plan["outgoing"] == next(s for s, state in site.roots().items() if state == "removed")
            plug(folder, make_ca("third ca", make_ca("third root")))
            wait_for("a plan for the third", lambda: len(desk.rotations(site.up, all_of_them=True)) == 2)
            site.wait_for_phase("done")
            assert subject(site) == "CN=third root"
