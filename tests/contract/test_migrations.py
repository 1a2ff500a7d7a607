"""Migrations: what they make is what the tables say, both ways, on both databases, and with something in them."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlmodel import SQLModel

from citadel.errors import NewerDatabase
from citadel.store import Store, engine
from citadel.store.upgrade import alembic_config
from tests.support.store import chain_is_whole, execute, issue

REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]


def test_they_are_one_line_from_the_first_to_the_newest() -> None:
    assert sorted(REVISIONS) == REVISIONS
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1


async def test_they_make_the_tables_that_the_program_means(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, SQLModel.metadata))

    async with store._ledger.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_each_goes_back_and_forth_and_the_first_leaves_nothing(url: str) -> None:
    async with Store.open(url, writer="one"):
        pass
    parsed = engine.parse_url(url)
    for _ in range(2):
        for revision in [*REVISIONS[-2::-1], "base"]:
            await engine.downgrade(parsed, revision)
        for revision in REVISIONS:
            await engine.migrate(parsed, url, timeout=10, to=revision)
    await engine.downgrade(parsed, "base")
    made = engine.create_for_migrations(parsed, timeout=10)
    async with made.connect() as connection:
        tables = await connection.run_sync(lambda c: inspect(c).get_table_names())
    await made.dispose()
    assert tables == ["alembic_version"]
    async with Store.open(url, writer="one") as store:
        await issue(store, 1)


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_what_was_recorded_outlasts_the_way_back_and_forth(url: str, revision: str) -> None:
    async with Store.open(url, writer="one") as store:
        await issue(store, 1, 2, 3)
    await engine.downgrade(engine.parse_url(url), revision)
    async with Store.open(url, writer="one") as store:
        await issue(store, 4)
        assert (await store.issuance.get(1)).intent.serial == 1
        assert await chain_is_whole(store, "one") == 4


async def test_a_newer_programs_database_is_refused_and_left_as_it_is(url: str) -> None:
    async with Store.open(url, writer="one") as store:
        await issue(store, 1)
    await execute(url, "UPDATE alembic_version SET version_num = '9999'")
    for _ in range(2):
        with pytest.raises(NewerDatabase, match="newer Citadel"):
            async with Store.open(url, writer="one"):
                pass


@pytest.mark.postgres
async def test_several_servers_may_start_on_an_empty_database_at_once(url: str) -> None:
    if url.startswith("sqlite"):
        pytest.skip("one process holds a SQLite")

    async def start(writer: str) -> None:
        async with Store.open(url, writer=writer) as store:
            assert await store.audit.writers() is not None

    await asyncio.gather(*(start(f"server-{n}") for n in range(4)))
