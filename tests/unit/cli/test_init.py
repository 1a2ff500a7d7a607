from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from citadel import config
from citadel.cli import init as module
from citadel.errors import CitadelError
from citadel.spiffe import TrustDomain
from tests.support.cli import CommandLine

DOMAIN = TrustDomain("example.org")


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o7777 for path in sorted(folder.rglob("*"))}


def test_what_is_made_is_private_where_it_must_be_whatever_the_umask(citadel: CommandLine, tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    before = os.umask(0o077)
    try:
        ended = citadel("init", "--trust-domain", "example.org", "--data-dir", home)
    finally:
        os.umask(before)
    assert (ended.code, ended.err) == (0, "")
    assert home.stat().st_mode & 0o7777 == 0o711
    assert tree(home) == {"citadel.toml": 0o644, "db": 0o700, "keys": 0o700, "keys/kek": 0o600, "run": 0o755}
    assert config.load(home / "citadel.toml", {}).data_dir == home


def test_the_next_steps_are_commands_that_find_the_configuration(citadel: CommandLine, tmp_path: Path) -> None:
    ended = citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "my mesh")
    assert f"export CITADEL_CONFIG='{tmp_path}/my mesh/citadel.toml'" in ended.out
    assert "citadel up" in ended.out


def test_programs_get_the_paths_as_json(citadel: CommandLine, tmp_path: Path) -> None:
    ended = citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "d", "-o", "json")
    assert ended.json() == {
        "trust_domain": "example.org",
        "data_dir": f"{tmp_path}/d",
        "config": f"{tmp_path}/d/citadel.toml",
        "admin_socket": f"{tmp_path}/d/run/admin.sock",
        "workload_socket": f"{tmp_path}/d/run/workload.sock",
    }


def test_a_second_init_changes_nothing(citadel: CommandLine, tmp_path: Path) -> None:
    citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "d")
    key = (tmp_path / "d/keys/kek").read_bytes()
    ended = citadel("init", "--trust-domain", "other.org", "--data-dir", tmp_path / "d")
    assert ended.code == 7
    assert f"a Citadel lives in {tmp_path}/d already" in ended.err
    assert (tmp_path / "d/keys/kek").read_bytes() == key


def test_two_inits_make_two_keys(citadel: CommandLine, tmp_path: Path) -> None:
    for name in "ab":
        citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / name)
    assert (tmp_path / "a/keys/kek").read_bytes() != (tmp_path / "b/keys/kek").read_bytes()


@pytest.mark.parametrize("name", ["keys", "db", "run", ".citadel-init"])
def test_what_another_program_has_put_there_is_left_alone(citadel: CommandLine, tmp_path: Path, name: str) -> None:
    (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "d" / name / "precious").touch()
    ended = citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "d")
    assert ended.code == 7
    assert f"{tmp_path}/d/{name} is there" in ended.err
    assert list(tree(tmp_path / "d")) == [name, f"{name}/precious"]


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "chmod"])
@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_half_done_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, time: int) -> None:
    calls = 0
    real = getattr(os, call)

    def full(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == time:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
        return real(*args, **more)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CitadelError, match="No space left on device"):
        module.lay_out(tmp_path / "above" / "d", DOMAIN)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.lay_out(tmp_path / "d", DOMAIN)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_such_as_a_mounted_one_is_used(tmp_path: Path) -> None:
    (tmp_path / "d" / "lost+found").mkdir(parents=True)
    module.lay_out(tmp_path / "d", DOMAIN)
    assert (tmp_path / "d" / "citadel.toml").is_file()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--trust-domain", "Example.org"], 4, "'Example.org' is not a trust domain"),
        (["--trust-domain", "example.org", "--data-dir", "/dev/null"], 4, "/dev/null is not a folder"),
        (["--trust-domain", "example.org", "--data-dir", "/proc/x"], 7, "/proc/x could not be made"),
        (["--trust-domain", "example.org", "--data-dir", "/" + "x" * 120], 4, "at most 107"),
        ([], 2, "--trust-domain"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(
    citadel: CommandLine, args: list[str], code: int, said: str
) -> None:
    ended = citadel("init", *args)
    assert ended.code == code
    assert said in ended.err


def test_a_folder_of_somebody_else_is_refused(citadel: CommandLine, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "d").mkdir()
    os.chown(tmp_path / "d", 65534, 65534)
    ended = citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "d")
    assert ended.code == 4
    assert f"{tmp_path}/d belongs to uid 65534" in ended.err
    assert tree(tmp_path / "d") == {}


def test_a_folder_that_others_may_write_to_is_refused(citadel: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    ended = citadel("init", "--trust-domain", "example.org", "--data-dir", tmp_path / "d")
    assert ended.code == 4
    assert ended.err == f"others may write to {tmp_path}/d; run: chmod go-w {tmp_path}/d\n"
