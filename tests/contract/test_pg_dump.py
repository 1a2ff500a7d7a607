"""PostgreSQL's own backups in the middle of a rotation: an older dump is noticed, accepted, and it goes on."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest

from citadel.backup.keeper import HighWaterKeeper
from citadel.backup.restoring import Place, accept_present
from citadel.ca.kek import LocalKek
from citadel.ca.rotation import Phase
from citadel.ca.rotation.commands import Wish
from citadel.errors import FailedPrecondition
from citadel.store import Store
from tests.support import postgres
from tests.support.clock import ManualClock
from tests.support.rotating import DOMAIN
from tests.support.rotation_driver import Drive
from tests.support.store import chain_is_whole

_OPERATOR = Wish("uid:0", "drill")


def run(program: str, *args: str | Path) -> None:
    folder = postgres.binaries()
    assert folder is not None
    subprocess.run([folder / program, *args], check=True, timeout=60)


@pytest.mark.postgres
async def test_a_dump_that_is_restored_in_the_middle_of_a_rotation(postgres_url: str, tmp_path: Path) -> None:
    before, after = await postgres.new_database(postgres_url), await postgres.new_database(postgres_url)
    kek, clock, place = LocalKek(secrets.token_bytes(32)), ManualClock(), Place(tmp_path, Path("/"), DOMAIN, "one")
    async with Store.open(before, writer="one") as store:
        database = await store.recognise(place.id)
        drive = Drive(store, kek, clock)
        await drive.authorities.ensure()
        await drive.rotations.prepare(_OPERATOR)
        run("pg_dump", "--format=custom", "--file", tmp_path / "dump", "--dbname", before)
        await drive._to_its_end(lambda plan: plan.phase is Phase.RETIRING)
        new = drive.authorities.current().authority.root_skid
        keeper = HighWaterKeeper(place.mark, store.authorities, store.audit, DOMAIN, store.changes)
        keeper.know(database)
        await keeper.write()
    run("pg_restore", "--exit-on-error", "--dbname", after, tmp_path / "dump")
    async with Store.open(after, writer="one") as store:
        keeper = HighWaterKeeper(place.mark, store.authorities, store.audit, DOMAIN, store.changes)
        keeper.know(await store.recognise(place.id))
        with pytest.raises(FailedPrecondition, match="older than what was in use here: its audit log of one ends"):
            await keeper.refuse_older()
    await accept_present(after, place, clock, "uid:0")
    async with Store.open(after, writer="one") as store:
        drive = Drive(store, kek, clock)
        await drive.authorities.ensure()
        assert (await drive._plan()).phase is Phase.DISTRIBUTING
        with pytest.raises(FailedPrecondition, match="cannot sign yet"):
            await drive.rotations.activate(_OPERATOR)
        await drive._to_its_end()
        assert drive.authorities.current().authority.root_skid == new
        assert await chain_is_whole(store, "one") > 0
