"""Issuing CAs by command: another one signs; a stolen one stops, and takes its root with it. And a planned rotation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_rotation import SETTINGS
from tests.support import desk
from tests.support.cacerts import DAY, certified, make_ca, plug
from tests.support.envoys import wait_for
from tests.support.up import QUICK, Up, running
from tests.support.webhook import webhook_gate


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
        to_an_offline_root(up, tmp_path)


def to_an_offline_root(up: Up, folder: Path) -> None:
    """In two steps; then back to one that is handed in."""
    offline, csr, signed = make_ca("offline", ends=99 * DAY), folder / "ca.csr", folder / "signed.pem"
    up.run("root", "prepare", "--csr-out", csr)
    assert "waits for its certificate from an offline root" in up.run("root", "status").stdout
    signed.write_bytes(certified(csr.read_bytes(), offline, datetime.now(UTC)))
    assert "would: the offline root" in up.run("root", "prepare", "--cert-in", signed, "--dry-run").stdout
    up.run("root", "prepare", "--cert-in", signed)
    old = active(up, "root")
    wait_for("its activation", lambda: desk.does(up, "activate"), 60)
    wait_for("the end of the old one", lambda: desk.does(up, "remove", old), 60)
    (subject,) = [one["subject"] for one in desk.authorities(up) if (one["kind"], one["state"]) == ("root", "active")]
    assert subject == "CN=offline"
    mine, cert, key = make_ca("mine", ends=99 * DAY), folder / "root.pem", folder / "root.key"
    cert.write_bytes(mine.pem)
    key.write_bytes(mine.key_pem)
    key.chmod(0o644)
    assert "chmod 600" in up.run("root", "prepare", "--cert", cert, "--key", key, check=False).stderr
    key.chmod(0o600)
    assert "go together" in up.run("root", "prepare", "--cert", cert, check=False).stderr
    up.run("root", "rotate", "--cert", cert, "--key", key, "--timeout", 60)
    assert "BEGIN" not in up.log.read_text()
    (subject,) = [one["subject"] for one in desk.authorities(up) if (one["kind"], one["state"]) == ("root", "active")]
    assert subject == "CN=mine"
    plug(folder / "new-ca", make_ca("plugged", make_ca("plugged root"), path_length=0, ends=30 * DAY))
    done = up.run("root", "rotate", "--to", "cacerts", folder / "new-ca", "--detach")
    assert "is in the trust bundle" in done.stdout


#: A root that is due at once: at a tenth of its life, and it is backdated by five minutes.
PLANNED = """
[root]
ttl = "40m"
[ca]
ttl = "20m"
[jobs]
planned_rotation = "1s"
[rotation.schedule]
root_at = "10%"
[rotation.hooks]
steps = ["activate"]
again = "1s"
command = ["/bin/sh", "-c", "test -e {ok} || {{ echo canary is red; exit 3; }}"]
{webhook}
"""


@pytest.mark.timeout(300)
def test_a_planned_rotation_waits_for_a_word_then_for_its_hooks_and_goes_to_its_end(tmp_path: Path) -> None:
    ok = tmp_path / "ok"
    short = QUICK.replace('min_ttl = "1s"', 'min_ttl = "1s"\ndefault_ttl = "1m"\nmax_ttl = "2m"')
    with (
        webhook_gate(tmp_path) as gate,
        running(tmp_path / "c", short + SETTINGS + PLANNED.format(ok=ok, webhook=gate.settings)) as up,
    ):
        old = active(up, "root")
        plan = up.json("root", "plan", "--days", 1)
        assert {entry["event"] for entry in plan["entries"]} == {"prepare", "activate", "remove", "renew"}
        assert plan["planned"]["waits_for"] == "approval"
        assert "it waits for your word" in up.run("root", "status").stdout
        up.run("root", "approve", "--reason", "change 4711")
        held = wait_for("a hook that holds it", lambda: [p["held"] for p in desk.rotations(up) if p["held"]], 60)
        assert "canary is red" in held[0][0]
        assert active(up, "root") == old
        assert "canary is red" in up.run("root", "activate", check=False).stderr
        ok.touch()
        wait_for("the end of it", lambda: ("root", "removed") in states(up), 60)
        assert active(up, "root") != old
        actions = {one["action"] for one in up.json("audit", "list", "--limit", 1000)}
        assert {"root.approve", "root.hold"} <= actions
        assert (gate.refused, [one["phase"] for one in gate.heard]) == ([], ["activate"]), "asked once, and believed"
        assert (gate.heard[0]["outgoing"], gate.heard[0]["planned"]) == (old, True)
