"""Issuing CAs by command: another one signs; a stolen one stops, and takes its root with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_rotation import SETTINGS
from tests.support import desk
from tests.support.envoys import wait_for
from tests.support.up import QUICK, Up, running


def states(up: Up) -> list[tuple[str, str]]:
    return sorted((one["kind"], one["state"]) for one in desk.authorities(up))


def active(up: Up, kind: str) -> Any:
    (one,) = [one["skid"] for one in desk.authorities(up) if (one["kind"], one["state"]) == (kind, "active")]
    return one


@pytest.mark.timeout(300)
def test_rotated_then_tainted(tmp_path: Path) -> None:
    with running(tmp_path / "c", QUICK + SETTINGS) as up:
        root, first = active(up, "root"), active(up, "issuing")
        assert "would be made" in up.run("ca", "rotate", "--dry-run").stdout
        up.run("ca", "rotate", "--reason", "drill")
        second = active(up, "issuing")
        assert second != first
        assert states(up) == [("issuing", "active"), ("issuing", "retiring"), ("root", "active")]
        assert "is trusted while root" in up.run("ca", "taint", second[:10], "--dry-run").stdout
        assert active(up, "issuing") == second
        refused = up.run("ca", "taint", root[:10], "--yes", check=False)
        assert "there is no issuing CA" in refused.stderr
        up.run("ca", "taint", second[:10], "--reason", "stolen", "--yes")
        assert active(up, "issuing") not in (first, second)
        wait_for("its root to be revoked", lambda: ("root", "revoked") in states(up), 60)
        found = {one["skid"]: one["state"] for one in desk.authorities(up)}
        assert (found[root], found[second], found[first]) == ("revoked", "revoked", "revoked")
        assert active(up, "root") != root
