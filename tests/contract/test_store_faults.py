"""What the store does when its disk, its file or its server fails: one sentence, and nothing half-done."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.ports import IssuanceQuery
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, Unavailable, UnsafePermissions
from citadel.store import Store
from tests.support import postgres
from tests.support.issuance import WEB, CurrentAuthority, SetClock, make_chain, make_csr
from tests.support.store import chain_is_whole, event, execute, intent, issue

SHORT = timedelta(seconds=1)


@asynccontextmanager
async def opened(path: Path, timeout: timedelta = SHORT) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{path}", writer="one", timeout=timeout) as store:
        yield store


async def refusal(path: Path) -> CitadelError:
    """What keeps the store from being opened."""
    with pytest.raises(CitadelError) as raised:
        async with opened(path):
            pass
    assert "\n" not in raised.value.sentence()
    assert raised.value.mend
    return raised.value


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """One with 300 certificates in it, closed."""
    path = tmp_path / "db" / "citadel.db"
    async with opened(path) as store:
        await asyncio.gather(*(issue(store, serial) for serial in range(1, 301)))
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own, of the size asked for. Needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder], check=False)
        if done.returncode:
            pytest.skip("mounting a small disk needs root, and a machine that allows it")
        return folder

    yield mount
    subprocess.run(["umount", folder], check=False, stderr=subprocess.DEVNULL)


def fill(disk: Path) -> Path:
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


async def records(path: Path) -> set[int]:
    async with opened(path) as store:
        return {record.intent.serial for record in await store.issuance.find(IssuanceQuery(limit=100_000))}


@pytest.mark.parametrize(
    "damaged",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1000],
        lambda raw: b"x" * 100 + raw[100:],
        lambda raw: raw[:8192] + os.urandom(4096) + raw[12288:],
        lambda raw: b"these are no tables\n" * 1000,
    ],
    ids=["emptied", "half", "cut", "header", "a page", "text"],
)
async def test_a_damaged_file_is_refused_and_left_as_it_is(database: Path, damaged: Callable[[bytes], bytes]) -> None:
    raw = damaged(database.read_bytes())
    database.write_bytes(raw)
    error = await refusal(database)
    assert isinstance(error, FailedPrecondition)
    assert error.sentence().startswith(f"the database is corrupt ({database}")
    assert "restore it from a backup" in error.mend
    assert database.read_bytes() == raw


async def test_a_database_with_other_tables_is_refused(database: Path) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("DROP TABLE audit")
        other.commit()
    assert "has other tables than Citadel made" in (await refusal(database)).sentence()


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
async def test_a_folder_that_others_can_get_at_is_refused(database: Path, mode: int) -> None:
    database.parent.chmod(mode)
    error = await refusal(database)
    assert isinstance(error, UnsafePermissions)
    assert error.mend == f"run: chmod 700 {database.parent}"


async def test_the_files_are_ours_alone_whatever_the_umask_is(tmp_path: Path) -> None:
    path = tmp_path / "db" / "citadel.db"
    before = os.umask(0)
    try:
        async with opened(path) as store:
            await issue(store, 1)
            assert {oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {"0o600"}
            assert path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


async def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "db" / "citadel.db"
    path.parent.mkdir(mode=0o700)
    path.mkdir()
    assert "is a directory; have store.url name a file" in (await refusal(path)).sentence()


async def test_a_second_server_on_the_folder_is_refused_and_names_the_first(database: Path) -> None:
    async with opened(database) as first:
        assert f"another Citadel (pid {os.getpid()})" in (await refusal(database)).sentence()
        await issue(first, 1000)
    assert 1000 in await records(database)


async def test_a_locked_database_is_waited_for_as_long_as_configured_and_then_told(database: Path) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "another program holds the database locked" in (await refusal(database)).sentence()
        other.rollback()
        async with opened(database) as store:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="holds the database locked"):
                await issue(store, 1000)
            with pytest.raises(Unavailable, match="holds the database locked"):
                await store.health()  # although it can be read
            other.rollback()
            await store.health()
            await issue(store, 1001)
            assert await chain_is_whole(store, "one") == 301
    assert await records(database) >= {1001}


async def test_a_writer_that_does_not_get_its_turn_in_time_is_told(database: Path) -> None:
    async with opened(database, timedelta(milliseconds=50)) as store, store._ledger.writing():
        with pytest.raises(Unavailable, match=r"was busy for 0\.05 s"):
            await store.issuance.intend(intent(1000), event())


@pytest.mark.root
async def test_a_disk_that_is_too_small_to_begin_on_is_told(small_disk: Callable[[str], Path]) -> None:
    path = small_disk("64k") / "db" / "citadel.db"
    assert "the disk is full" in (await refusal(path)).sentence()
    fill(path.parents[1])
    assert re.search("the disk is full|that it is not full", (await refusal(path)).sentence())


@pytest.mark.root
async def test_a_read_only_disk_is_told(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("4m")
    path = disk / "db" / "citadel.db"
    async with opened(path) as store:
        await issue(store, 1)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert "read-only file system; mount it so that it can be written to" in (await refusal(path)).sentence()
    assert "read-only file system" in (await refusal(disk / "other" / "citadel.db")).sentence()


@pytest.mark.root
async def test_a_full_disk_never_gives_a_certificate_that_is_not_on_record(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("2m")
    path, clock, csr = disk / "db" / "citadel.db", SetClock(), make_csr()
    chain = await make_chain()
    handed_out: list[int] = []
    async with opened(path) as store:
        issuer = Issuer(CurrentAuthority(chain.signing_authority()), store.issuance, clock, IssuancePolicy())

        async def client() -> None:
            while True:
                handed_out.append((await issuer.issue(IssueRequest(WEB, "e", csr, "uid:0"))).serial)

        async with asyncio.timeout(60):
            ends = await asyncio.gather(*(client() for _ in range(8)), return_exceptions=True)
        assert all("the disk is full" in str(end) for end in ends)
        filling = fill(disk)
        assert len(await store.issuance.find(IssuanceQuery(limit=5))) == 5  # what is there can be read
        filling.unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        await store.health()
        handed_out.append((await issuer.issue(IssueRequest(WEB, "e", csr, "uid:0"))).serial)
    assert set(handed_out) <= await records(path)
    assert len(set(handed_out)) == len(handed_out) > 10
    async with opened(path) as store:
        assert await chain_is_whole(store, "one") >= len(handed_out)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.installed() as running:
        yield running


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("/postgres?", "/nothere?"), FailedPrecondition, "there is no such database"),
        (("citadel@", "nobody@"), FailedPrecondition, "PostgreSQL does not let us in"),
        (("citadel@", "zoe:wrong@"), FailedPrecondition, "PostgreSQL refuses the password"),
        (("citadel@", "poor@"), FailedPrecondition, "the database user may not do this"),
        (("?host", "?foo=bar&host"), FailedPrecondition, "does not know an option in store.url"),
        (("?host=", "?port=x&host="), InvalidInput, "store.url cannot be used"),
        (("?host=", "?host=/nowhere"), Unavailable, "cannot be used now"),
    ],
    ids=["no database", "no user", "wrong password", "no rights", "unknown option", "bad option", "no server"],
)
async def test_a_postgresql_that_is_not_ready_for_us_is_told_without_a_password(
    server: postgres.Server, change: tuple[str, str], error: type[CitadelError], said: str
) -> None:
    if change[1].startswith("zoe"):
        await execute(server.url, "CREATE ROLE zoe LOGIN PASSWORD 'right'")
        server.require_password("zoe")
    if change[1].startswith("poor"):
        await execute(server.url, "CREATE ROLE poor LOGIN", "REVOKE CREATE ON SCHEMA public FROM public")
    with pytest.raises(error, match=said) as raised:
        async with Store.open(server.url.replace(*change), writer="one", timeout=SHORT * 5):
            pass
    assert raised.value.mend
    assert "wrong@" not in raised.value.sentence()
    assert ":wrong" not in raised.value.sentence()


@pytest.mark.postgres
async def test_a_postgresql_that_goes_away_under_load_loses_nothing_and_is_found_again(server: postgres.Server) -> None:
    url = await postgres.new_database(server.url)
    written: set[int] = set()
    refused: list[CitadelError] = []
    ending = asyncio.Event()
    async with Store.open(url, writer="one", timeout=SHORT * 5) as store:

        async def client(number: int) -> None:
            serial = number << 64
            while not ending.is_set():
                serial += 1
                try:
                    await issue(store, serial)
                    written.add(serial)
                except CitadelError as error:
                    refused.append(error)
                    await asyncio.sleep(0.05)

        async def until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            for number in range(1, 17):
                group.create_task(client(number))
            for _ in range(2):
                before, failures = len(written), len(refused)
                await until(lambda before=before: len(written) > before + 100)  # type: ignore[misc]  # a default
                await asyncio.to_thread(server.stop)
                await until(lambda failures=failures: len(refused) > failures + 16)  # type: ignore[misc]  # as above
                await asyncio.to_thread(server.start)
                before = len(written)
                await until(lambda before=before: len(written) > before + 100)  # type: ignore[misc]  # as above
            ending.set()
        assert {type(error) for error in refused} == {Unavailable}
    async with Store.open(url, writer="one", timeout=SHORT * 5) as store:
        found = [record.intent.serial for record in await store.issuance.find(IssuanceQuery(limit=1_000_000))]
        assert len(found) == len(set(found))
        assert written <= set(found)
        assert await chain_is_whole(store, "one") == len(found)
