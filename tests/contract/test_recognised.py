"""A server knows its database again, and makes no new root in an empty one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from citadel.errors import FailedPrecondition, Unavailable
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.up import Up


async def opened(folder: Path, marker: Path) -> None:
    async with Store.open(f"sqlite:///{folder}/citadel.db", writer="one") as store:
        await store.recognise(marker)


async def test_the_database_of_before_is_taken_and_an_empty_or_another_one_refused(tmp_path: Path) -> None:
    marker = tmp_path / "database-id"
    await opened(tmp_path / "a", marker)
    remembered = marker.read_text()
    await opened(tmp_path / "a", marker)
    with pytest.raises(FailedPrecondition, match=r"is empty: .* remembers the one") as refused:
        await opened(tmp_path / "b", marker)
    assert "mount or restore that one" in refused.value.mend
    await opened(tmp_path / "c", tmp_path / "other")
    with pytest.raises(FailedPrecondition, match="is another one than before"):
        await opened(tmp_path / "c", marker)
    assert marker.read_text() == remembered


async def test_a_marker_that_was_lost_or_damaged(tmp_path: Path) -> None:
    marker = tmp_path / "database-id"
    await opened(tmp_path / "a", marker)
    remembered = marker.read_text()
    marker.unlink()
    await opened(tmp_path / "a", marker)
    assert marker.read_text() == remembered
    marker.write_text("?")
    with pytest.raises(FailedPrecondition, match="does not hold a database's id"):
        await opened(tmp_path / "a", marker)


def test_a_real_citadel_makes_no_new_root_when_its_database_is_not_mounted(tmp_path: Path) -> None:
    up = Up(tmp_path / "c")
    up.start()
    root = up.run("bundle", "show").stdout
    up.end()
    (up.home / "db").rename(tmp_path / "unmounted")
    with pytest.raises(AssertionError, match="remembers the one that this Citadel used"):
        up.start()
    shutil.rmtree(up.home / "db")
    (tmp_path / "unmounted").rename(up.home / "db")
    up.start()
    assert up.run("bundle", "show").stdout == root
    up.end()


async def test_nothing_is_written_once_the_file_was_moved_away_and_again_when_it_is_back(tmp_path: Path) -> None:
    database = tmp_path / "a" / "citadel.db"
    async with Store.open(f"sqlite:///{database}", writer="one") as store:
        await store.recognise(tmp_path / "database-id")
        database.rename(tmp_path / "moved")
        with pytest.raises(Unavailable, match="was moved away or replaced while Citadel runs"):
            await store.pin_trust_domain(TrustDomain("example.org"))
        with pytest.raises(Unavailable):
            await store.health()
        database.touch()
        with pytest.raises(Unavailable):
            await store.health()
        (tmp_path / "moved").rename(database)
        await store.pin_trust_domain(TrustDomain("example.org"))
        await store.health()
