"""A file that is replaced is whole at any time, and nothing is left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from citadel.durable import replace_file


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    place = tmp_path / "f"
    replace_file(place, b"one")
    replace_file(place, b"two", mode=0o640)
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"two", 0o640)
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_run_left_neither_stays_nor_is_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / ".f.new").symlink_to(elsewhere)
    replace_file(tmp_path / "f", b"one")
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_the_old_file_is_there_where_the_new_one_cannot_be_made(tmp_path: Path) -> None:
    place = tmp_path / "f"
    place.mkdir()
    (place / "kept").touch()
    with pytest.raises(OSError, match="directory"):
        replace_file(place, b"two")
    assert list(tmp_path.iterdir()) == [place]
    assert (place / "kept").exists()
