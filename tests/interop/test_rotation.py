"""Rotation of the root under real Envoys and constant load: nothing fails, unless somebody forces it to."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from citadel.sds.bootstrap import Variant
from tests.support import desk
from tests.support.envoys import CHURN, TCP, WAYS, Mesh, mesh, wait_for
from tests.support.load import Load
from tests.support.presented import taken_from

pytestmark = pytest.mark.envoy
TTL = "40s"  # so long that it is the reissue that replaces leaves, and not their age
SETTINGS = """
[rotation]
reconnect_window = "1500ms"
session_life = "4s"
clock_skew = "1s"
grace = "16s"
assumed_after = "2s"
emergency_gate = "3s"
"""
ROTATION_SECONDS = 45.0
_IN_THE_WAY = re.compile(
    "cannot sign yet: .|is still needed: .|is being distributed|only a tainted root|nothing left to"
)


class Site:
    """A mesh with two pairs, and the commands of its operator."""

    def __init__(self, made: Mesh) -> None:
        self.mesh = made
        self.up = made.up
        ways = {Variant.SOTW: (*WAYS, TCP), Variant.DELTA_ADS: WAYS}
        self.pairs = {v.value: made.pair(v.value, v, ways=called, ttl=TTL) for v, called in ways.items()}
        self.listeners = {
            f"{name}/{way}": path for name, pair in self.pairs.items() for way, path in pair.listeners.items()
        }

    def load(self, more: Mapping[str, Path] | None = None) -> Load:
        listeners = {**self.listeners, **(more or {})}
        return Load(listeners, per_second=15, given_up=[name for name in listeners if name.endswith(TCP)])

    @contextmanager
    def undisturbed(self) -> Iterator[Load]:
        """Inside, nothing fails on either side of any connection."""
        before = self.failures()
        with self.load() as load:
            load.wait_for(5)
            yield load
            load.wait_for(10)
        assert load.failed == {}
        assert self.failures() == before

    def failures(self) -> dict[str, int]:
        return {name: count for pair in self.pairs.values() for name, count in pair.failures().items()}

    def roots(self) -> dict[str, str]:
        """SKID: state."""
        return {one["skid"]: one["state"] for one in desk.authorities(self.up) if one["kind"] == "root"}

    def active(self) -> str:
        (skid,) = [skid for skid, state in self.roots().items() if state == "active"]
        return skid

    def plan(self) -> Any:
        return desk.rotations(self.up, all_of_them=True)[-1]

    def wait_for_the_end(self, seconds: float = ROTATION_SECONDS) -> None:
        """Until nothing is under way."""
        wait_for("the end of what is under way", lambda: not desk.rotations(self.up), seconds)

    def wait_for_phase(self, *phases: str, seconds: float = ROTATION_SECONDS) -> Any:
        return wait_for(f"phase {phases}", lambda: (p := self.plan())["phase"] in phases and p, seconds)

    def rotate(self) -> None:
        self.up.run("root", "rotate", "--timeout", ROTATION_SECONDS)

    def accepts(self, command: str, skid: str = "") -> bool:
        """Whether it is carried out now."""
        return desk.does(self.up, command, skid)

    def refused(self, *args: object) -> str:
        """The sentence with which a command is refused."""
        done = self.up.run("root", *args, check=False)
        assert done.returncode == 7, (done.stdout, done.stderr)
        return done.stderr


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with mesh(SETTINGS) as made:
        yield Site(made)


@pytest.fixture
def settled(site: Site) -> Site:
    """With nothing under way from the test before."""
    site.wait_for_the_end()
    return site


def test_a_whole_rotation_loses_nothing_and_then_the_old_root_is_refused(settled: Site) -> None:
    old = settled.active()
    with taken_from(settled.up, TTL) as leaf, settled.undisturbed():
        for pair in settled.pairs.values():
            assert leaf.is_welcome_at(pair)
        settled.rotate()
        assert settled.roots()[old] == "removed"
        wait_for("the new bundle", lambda: all(len(e.roots()) == 1 for p in settled.pairs.values() for e in p.both))
    for pair in settled.pairs.values():
        assert not leaf.is_welcome_at(pair)


def test_three_rotations_back_to_back(settled: Site) -> None:
    before = settled.active()
    with settled.undisturbed():
        for _ in range(3):
            settled.up.run("root", "rotate", "--detach")
            settled.wait_for_phase("retiring", "done")
        settled.wait_for_phase("done")
        settled.wait_for_the_end()
    assert list(settled.roots().values()).count("active") == 1
    assert settled.roots()[before] == "removed"


def test_going_back_in_each_phase(settled: Site) -> None:
    before = settled.active()
    with settled.undisturbed() as load:
        settled.up.run("root", "prepare")
        load.wait_for(5)
        settled.up.run("root", "rollback")
        assert settled.active() == before
        settled.up.run(
            "root", "prepare"
        )  # step by step: on a busy machine the old root could be gone before we go back
        wait_for("activation", lambda: settled.accepts("activate"), ROTATION_SECONDS)
        new = settled.active()
        assert new != before
        load.wait_for(10)
        settled.up.run("root", "rollback")
        assert settled.active() == before
        wait_for("removal", lambda: settled.accepts("remove", new), ROTATION_SECONDS)
    assert settled.active() == before
    assert settled.roots()[new] == "removed"


def test_an_operator_in_a_hurry_breaks_nothing(settled: Site) -> None:
    old = settled.active()
    with settled.undisturbed():
        for pause in (0, 3):
            settled.up.run("root", "prepare", "--replace")
            done = []
            for step in (("activate",), ("taint", old, "--detach", "--yes"), ("revoke", old)):
                time.sleep(pause)  # an operator's, not ours
                done.append(settled.up.run("root", *step, check=False))
            for one in done:  # each is done, or refused with what is in its way
                assert one.returncode == 0 or (one.returncode == 7 and _IN_THE_WAY.search(one.stderr)), one
            settled.wait_for_the_end()
            old = settled.active()


def test_a_tainted_root_is_replaced_and_revoked_by_one_command(settled: Site) -> None:
    old = settled.active()
    with settled.undisturbed():
        settled.up.run("root", "taint", old[:10], "--yes", "--reason", "drill", "--timeout", ROTATION_SECONDS)
    assert settled.roots()[old] == "revoked"


def test_a_frozen_envoy_is_named_and_holds_up_activation_until_its_grace_ends(settled: Site) -> None:
    frozen = settled.mesh.pair("frozen", ways=[CHURN], ttl=TTL)
    old = settled.active()
    with settled.undisturbed():
        frozen.server.signal(signal.SIGSTOP)
        try:
            settled.up.run("root", "rotate", "--detach")
            began = time.monotonic()
            behind = wait_for("who is behind", lambda: list(settled.plan()["gate"]["behind"]))
            wait_for("only the frozen one", lambda: _behind(settled) == {"frozen-s"})
            assert behind
            assert "frozen-s" in settled.refused("activate")
            assert settled.active() == old
            settled.wait_for_phase("retiring", seconds=60)
            assert time.monotonic() - began > 10
            assert [e["client"].partition("@")[0] for e in _excused_in_audit(settled)] == ["frozen-s"]
        finally:
            frozen.server.signal(signal.SIGCONT)
            for one in frozen.both:
                one.end()
        settled.wait_for_phase("done", seconds=90)


def test_of_two_envoys_with_one_node_id_the_silence_of_one_is_not_hidden_by_the_other(settled: Site) -> None:
    twins = [settled.mesh.pair(name, ways=[CHURN], ttl=TTL, node="twin") for name in ("castor", "pollux")]
    old = settled.active()
    frozen = twins[0].server
    with settled.undisturbed():
        frozen.signal(signal.SIGSTOP)
        try:
            settled.up.run("root", "rotate", "--detach")
            wait_for("only the frozen one", lambda: _behind(settled) == {"twin-s"})
            (one,) = settled.plan()["gate"]["behind"]
            assert f"/pid:{frozen.pid}." in one["client"]
            assert f"/pid:{frozen.pid}." in settled.refused("activate")
            assert settled.active() == old
        finally:
            frozen.signal(signal.SIGCONT)
        settled.wait_for_phase("done", seconds=90)
        for one_of_them in (one for pair in twins for one in pair.both):
            one_of_them.end()


@pytest.mark.parametrize("citadel", ["runs", "is down"])
def test_an_envoy_that_was_killed_is_waited_for_no_longer(settled: Site, citadel: str) -> None:
    doomed = settled.mesh.pair(f"doomed-{citadel[0]}", ways=[CHURN], ttl=TTL)
    doomed.client.end()
    name = doomed.server.name
    old = settled.active()
    with settled.undisturbed():
        doomed.server.signal(signal.SIGSTOP)
        settled.up.run("root", "prepare")
        wait_for("it to be named", lambda: _behind(settled) == {name})
        if citadel == "is down":
            settled.up.end(signal.SIGKILL)
        doomed.server.end(signal.SIGKILL)
        if citadel == "is down":
            settled.up.start()
        began = time.monotonic()
        wait_for("its end to be noticed", lambda: name not in _behind(settled))
        wait_for("an open gate", lambda: settled.accepts("activate"))
        assert time.monotonic() - began < 12  # its grace would have been 16 s
        settled.wait_for_phase("retiring", "done")
        assert _state_of(settled, name) == {"ended"}
        assert settled.active() != old
        wait_for("an open gate", lambda: settled.accepts("remove", old), 90)


def _state_of(site: Site, node: str) -> set[str]:
    return {one["state"] for one in site.up.json("status", "--clients") if one["client"].startswith(f"{node}@")}


def _behind(site: Site) -> set[str]:
    return {b["client"].partition("@")[0] for b in site.plan()["gate"]["behind"]}


def _excused_in_audit(site: Site) -> list[dict[str, str]]:
    records = [r for r in site.up.json("audit", "list", "--limit", 10000) if r["action"] == "root.excuse"]
    return [{"client": name} for r in records[-1:] for name in re.findall(r"(\S+@\S+) \(", r["detail"]["what"])]


@pytest.mark.parametrize("phase", ["distributing", "retiring"])
def test_killed_in_each_phase_it_goes_on_where_it_was(settled: Site, phase: str) -> None:
    old = settled.active()
    with settled.undisturbed() as load:
        settled.up.run("root", "rotate", "--detach")
        if phase == "retiring":
            settled.wait_for_phase("retiring", "done")  # on a busy machine it may be over by now
        settled.up.end(signal.SIGKILL)
        load.wait_for(10)
        settled.up.start()
        settled.wait_for_phase("done", seconds=60)
    assert settled.roots()[old] == "removed"
    assert settled.up.run("audit", "verify").returncode == 0


def test_an_envoy_that_is_restarted_in_the_middle_is_waited_for_and_loses_nothing(settled: Site) -> None:
    restarted = settled.mesh.pair("restarted", ways=[CHURN], ttl=TTL)
    old = settled.active()
    with settled.undisturbed():
        for phase in ("distributing", "retiring"):
            if phase == "distributing":
                settled.up.run("root", "prepare")  # step by step: it stays in its phase for as long as we look
            for one in restarted.both:
                one.end()
                one.start()
            for one in restarted.both:
                wait_for(f"Envoy {one.name}", one.ready)
            with settled.load(restarted.listeners) as load:
                load.wait_for(5)
                if phase == "distributing":
                    wait_for("an open gate", lambda: settled.accepts("activate"), ROTATION_SECONDS)
                    assert settled.active() != old
                else:
                    wait_for("an open gate", lambda: settled.accepts("remove", old), 90)
                load.wait_for(10)
            assert load.failed == {}
            assert restarted.failures() == {}
        for one in restarted.both:
            assert len(one.roots()) == 1
            one.end()


def test_a_backup_that_is_restored_in_the_middle_of_a_rotation_loses_nothing(settled: Site, tmp_path: Path) -> None:
    passphrase, backup = tmp_path / "passphrase", tmp_path / "backup"
    passphrase.write_text("a passphrase that is long enough")
    passphrase.chmod(0o600)
    with settled.undisturbed() as load:
        old = settled.active()
        settled.up.run("root", "prepare")
        settled.up.run("backup", "create", backup, "--passphrase-file", passphrase)
        wait_for("activation", lambda: settled.accepts("activate"), ROTATION_SECONDS)
        new = settled.active()
        load.wait_for(10)
        settled.up.end(signal.SIGKILL)
        database = settled.up.home / "db"
        for file in database.glob("citadel.db*"):
            file.rename(tmp_path / file.name)
        restore = ("backup", "restore", backup, "--passphrase-file", passphrase)
        refused = settled.up.run(*restore, check=False)
        assert "older than what was in use here" in refused.stderr
        assert not list(database.glob("citadel.db*"))
        settled.up.run(*restore, "--accept-older", "--yes")
        settled.up.start()
        assert (settled.active(), settled.plan()["phase"]) == (old, "distributing")
        load.wait_for(5)
        wait_for("activation", lambda: settled.accepts("activate"), ROTATION_SECONDS)
        assert settled.active() == new
        wait_for("removal", lambda: settled.accepts("remove", old), 90)
    assert settled.up.run("audit", "verify").returncode == 0


def test_the_wrong_order_forced_makes_the_same_load_fail_unless_the_new_root_is_cross_signed() -> None:
    with mesh(SETTINGS) as made:
        site = Site(made)
        old, pem = site.active(), site.up.run("bundle", "show").stdout
        stubborn = made.pair("stubborn", ways=[CHURN], ttl=TTL, server_trusts=pem)
        with site.load(stubborn.listeners) as load:
            load.wait_for(5)
            site.up.run("root", "prepare", "--cross-sign")
            wait_for("all but one", lambda: _behind(site) == {"stubborn-s"})
            stubborn.client.look()
            before = stubborn.client.renewals
            site.up.run("root", "activate", "--force", "--yes")
            new = site.active()
            wait_for("another leaf", lambda: stubborn.client.look().renewals > before)
            load.wait_for(10)
            assert load.failed == {}, "it knows only the old root, and verifies the new one by that"
            site.up.run("root", "rollback")
            wait_for("removal", lambda: site.accepts("remove", new), 90)
            assert site.active() == old

            site.up.run("root", "prepare")
            wait_for("all but one", lambda: _behind(site) == {"stubborn-s"})
            assert "stubborn-s" in site.refused("activate")
            assert load.failed == {}
            site.up.run("root", "activate", "--force", "--yes")
            wait_for("failures", lambda: load.tallies[CHURN].failed >= 5)
            assert set(load.failed) == {CHURN}
        assert stubborn.server.total(".ssl.fail_verify_error") > 0
        assert [text.partition("@")[0] for text in site.plan()["left_behind"]] == ["stubborn-s"]
