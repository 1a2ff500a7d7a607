"""Who else could put something in the place of what is ours: along the whole way to a folder, links followed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from citadel import folders
from citadel.config import Settings, guarded_folders, trusted_files
from citadel.errors import UnsafePermissions
from citadel.folders import open_to_everybody, refuse_weak, weaknesses

ME = os.geteuid()
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of ours right below /tmp, and one in it."""
    path = Path(tempfile.mkdtemp(prefix="c"))
    (path / "a" / "b").mkdir(parents=True)
    for one in (path, path / "a", path / "a" / "b"):
        one.chmod(0o755)
    yield path
    shutil.rmtree(path)


def weak(path: Path) -> dict[Path, str]:
    return {one.path: one.why for one in weaknesses(path, ME)}


def test_what_only_we_and_root_can_write_to_has_no_weakness_though_tmp_is_everybodys(home: Path) -> None:
    assert weak(home / "a" / "b") == {}


@pytest.mark.parametrize("where", ["", "a", "a/b"])
def test_whatever_everybody_can_write_to_on_the_way_is_named_with_what_mends_it(home: Path, where: str) -> None:
    (home / where).chmod(0o777)
    [found] = weaknesses(home / "a" / "b", ME)
    assert (found.path, found.why) == (home / where, "may be written to by everybody (mode 0777)")
    subprocess.run(found.mend.removeprefix("run: "), shell=True, check=True)
    assert weak(home / "a" / "b") == {}


def test_a_sticky_folder_is_one_to_pass_and_none_to_be_in(home: Path) -> None:
    (home / "a").chmod(0o1777)
    assert weak(home / "a" / "b") == {}
    assert set(weak(home / "a")) == {home / "a"}


def test_what_is_not_there_yet_is_judged_by_what_is(home: Path) -> None:
    assert weak(home / "a" / "new" / "er") == {}
    (home / "a").chmod(0o777)
    assert set(weak(home / "a" / "new" / "er")) == {home / "a"}


def test_the_way_of_a_link_counts_to_its_target_too(home: Path) -> None:
    (home / "link").symlink_to("a/../a/b")
    (home / "round").symlink_to("round")
    assert weak(home / "link") == {}
    assert weak(home / "round") == {}, "who opens it is told"
    (home / "a").chmod(0o777)
    assert set(weak(home / "link")) == {home / "a"}


@as_root
def test_what_belongs_to_somebody_else_is_named(home: Path) -> None:
    os.chown(home / "a", NOBODY, -1)
    [found] = weaknesses(home / "a" / "b", ME)
    assert (found.path, found.why) == (home / "a", f"belongs to {pwd.getpwuid(NOBODY).pw_name}")
    assert weaknesses(home / "a" / "b", NOBODY) == []
    subprocess.run(found.mend.removeprefix("run: "), shell=True, check=True)
    assert weak(home / "a" / "b") == {}


@as_root
def test_a_link_of_somebody_else_is_named_wherever_it_leads(home: Path) -> None:
    (home / "link").symlink_to("a")
    os.chown(home / "link", NOBODY, -1, follow_symlinks=False)
    assert set(weak(home / "link" / "b")) == {home / "link"}


@as_root
def test_a_group_that_others_are_in_is_others_and_roots_own_is_not(home: Path) -> None:
    (home / "a").chmod(0o775)
    assert weak(home / "a") == {}, "the group is root's"
    os.chown(home / "a", -1, NOBODY)
    assert "by the group" in weak(home / "a")[home / "a"]


def test_all_of_several_folders_is_refused_at_once(home: Path) -> None:
    for one in ("a", "a/b"):
        (home / one).chmod(0o777)
    with pytest.raises(UnsafePermissions) as caught:
        refuse_weak({"x": home / "a", "y": home / "a" / "b"})
    assert caught.value.message.count("everybody (mode 0777)") == 2
    assert caught.value.mend == f"run: chmod go-w {home / 'a'}; run: chmod go-w {home / 'a' / 'b'}"
    refuse_weak({"x": home})


def test_the_folders_of_all_sockets_are_guarded() -> None:
    authorization = {"http": {"socket": "/a/h.sock"}, "authzen": {"socket": "/b/z.sock"}}
    given = {"trust_domain": "example.org", "data_dir": "/d", "authorization": authorization}
    settings = Settings.model_validate(given, context={"base": Path("/d"), "data_dir": Path("/d")})
    guarded = guarded_folders(settings)
    assert {Path("/a"), Path("/b"), settings.sockets.workload.path.parent} <= set(guarded.values())
    assert None not in guarded.values()


@pytest.mark.parametrize("where", ["", "a", "a/b", "a/b/p.yaml"])
def test_what_everybody_can_change_of_files_that_are_believed_is_named(home: Path, where: str) -> None:
    (home / "a/b/p.yaml").touch(0o644)
    (home / "a/b/..data").symlink_to("p.yaml")  # a link's own mode says nothing
    assert open_to_everybody(home / "a/b") == []
    (home / where).chmod(0o666 if where.endswith("yaml") else 0o777)
    for named in (home / "a/b", home / "a/b/p.yaml"):
        [found] = open_to_everybody(named)
        assert (found.path, "written to by everybody" in found.why) == (home / where, True)
    subprocess.run(found.mend.removeprefix("run: "), shell=True, check=True)
    assert open_to_everybody(home / "a/b") == []


def test_others_may_be_given_what_is_believed(home: Path) -> None:
    (home / "a").chmod(0o775)
    assert open_to_everybody(home / "a") == []


def test_a_read_only_mount_is_written_by_nobody_whatever_its_mode(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts a ConfigMap: a folder of mode 0777, and links in it."""
    (home / "a").chmod(0o777)
    monkeypatch.setattr(folders, "_is_read_only", (home / "a").__eq__)
    assert open_to_everybody(home / "a") == []
    (home / "a/b").chmod(0o777)
    assert [one.path for one in open_to_everybody(home / "a")] == [home / "a/b"]
    assert folders._is_read_only(home / "a")


def test_a_mount_tells_whether_it_is_read_only() -> None:
    assert not folders._is_read_only(Path(tempfile.gettempdir()))
    assert not folders._is_read_only(Path("/nonexistent"))


def test_what_is_believed_is_all_that_others_hand_in() -> None:
    authzen = {"entities": "e.yaml", "client_ca": "ca.pem", "client_ca_trust_domains": ["a.org"]}
    given = {"trust_domain": "example.org", "data_dir": "/d", "authorization": {"policies": "p", "authzen": authzen}}
    settings = Settings.model_validate(given, context={"base": Path("/d"), "data_dir": Path("/d")})
    assert trusted_files(settings) == {
        "authorization.policies": Path("/d/p"),
        "authorization.authzen.entities": Path("/d/e.yaml"),
        "authorization.authzen.client_ca": Path("/d/ca.pem"),
    }
