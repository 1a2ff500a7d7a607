from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import CommandLine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "citadel.toml"
    path.write_text('trust_domain = "example.org"\ndata_dir = "."\n[log]\nlevel = "debug"\n')
    return path


def test_every_setting_is_shown_with_where_it_comes_from(citadel: CommandLine, file: Path) -> None:
    ended = citadel("config", "show", "--config", file, "-o", "json", CITADEL_HTTP__ADDRESS="")
    rows = {row["setting"]: (row["value"], row["origin"]) for row in ended.json()}
    assert rows["log.level"] == ("debug", f"{file}:4")
    assert rows["http.address"] == ("", "CITADEL_HTTP__ADDRESS")
    assert rows["svid.default_ttl"] == ("1h", "default")


def test_no_secret_is_shown(citadel: CommandLine, file: Path) -> None:
    ended = citadel("config", "show", CITADEL_CONFIG=str(file), CITADEL_STORE__URL="postgresql://u:hunter2@h/d")
    assert ended.code == 0
    assert "hunter2" not in ended.out


def test_a_right_configuration_is_said_to_be_right(citadel: CommandLine, file: Path) -> None:
    ended = citadel("config", "check", "--config", file)
    assert (ended.code, ended.out) == (0, f"{file}: no mistakes\n")


def test_all_mistakes_are_told_at_once(citadel: CommandLine, file: Path) -> None:
    file.write_text(file.read_text() + 'x = 1\n[svid]\ndefault_ttl = "soon"\n')
    ended = citadel("config", "check", "--config", file, CITADEL_LOG__LEVEL="loud")
    assert ended.code == 4
    places = [line.split(": ")[0] for line in ended.err.splitlines()]
    assert places == [f"{file}:5", f"{file}:7", "CITADEL_LOG__LEVEL"]


def test_without_any_configuration_it_is_said_how_to_make_one(citadel: CommandLine) -> None:
    ended = citadel("config", "check")
    assert ended.code == 3
    assert "make one with 'citadel init'" in ended.err


def test_the_environment_alone_is_a_configuration(citadel: CommandLine, tmp_path: Path) -> None:
    ended = citadel("config", "check", CITADEL_TRUST_DOMAIN="example.org", CITADEL_DATA_DIR=str(tmp_path))
    assert (ended.code, ended.out) == (0, "environment: no mistakes\n")
