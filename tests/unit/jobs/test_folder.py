from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.errors import BadFile, FailedPrecondition
from citadel.jobs.folder import EntryFolder
from citadel.registry import Registry, RegistryPolicy
from tests.support.clock import ManualClock
from tests.support.registry import NODE, TD, MemoryEntryStore, entry

POLICY = RegistryPolicy(timedelta(minutes=1), timedelta(days=1))


@pytest.fixture
def store() -> MemoryEntryStore:
    return MemoryEntryStore()


@pytest.fixture
def registry(store: MemoryEntryStore) -> Registry:
    return Registry(store, TD, ManualClock(), POLICY)


def write(path: Path, *names: str) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [f"- spiffe_id: spiffe://{TD}/{name}\n  selectors: [unix:uid:1]\n" for name in names]
    path.write_text("entries:\n" + "".join(lines))


def paths(store: MemoryEntryStore) -> set[str]:
    return {one.spiffe_id.path for one in store.entries.values()}


def folder(registry: Registry, path: Path, *, prune: bool = False) -> EntryFolder:
    return EntryFolder(
        registry, NODE, path, "s", prune=prune, every=timedelta(hours=1), look=timedelta(milliseconds=20)
    )


@asynccontextmanager
async def watching(one: EntryFolder) -> AsyncIterator[None]:
    task = asyncio.create_task(one.watch())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not seen():
            await asyncio.sleep(0.02)


async def test_the_files_become_entries_of_the_local_node_in_the_set(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "a.yaml", "a")
    plan = await folder(registry, tmp_path).apply()
    (one,) = store.entries.values()
    assert (one.parent_id, one.apply_set, len(plan.create)) == (NODE, "s", 1)
    assert store.events[-1].actor == "system:apply:s"


async def test_without_prune_what_is_gone_from_the_files_stays(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "a.yaml", "a", "b")
    await folder(registry, tmp_path).apply()
    write(tmp_path / "a.yaml", "a")
    await folder(registry, tmp_path).apply()
    assert paths(store) == {"/a", "/b"}
    await folder(registry, tmp_path, prune=True).apply()
    assert paths(store) == {"/a"}


async def test_an_empty_folder_prunes_nothing(registry: Registry, store: MemoryEntryStore, tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "a")
    await folder(registry, tmp_path, prune=True).apply()
    (tmp_path / "a.yaml").unlink()
    with pytest.raises(FailedPrecondition, match="nothing is pruned"):
        await folder(registry, tmp_path, prune=True).apply()
    assert paths(store) == {"/a"}


async def test_a_mistake_in_one_file_changes_nothing(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "a.yaml", "a")
    (tmp_path / "b.yaml").write_text("entries: 3\n")
    with pytest.raises(BadFile):
        await folder(registry, tmp_path).apply()
    assert store.entries == {}


async def test_a_changed_folder_is_applied_and_a_broken_one_is_told_until_it_is_mended(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    one = folder(registry, tmp_path)
    async with watching(one):
        write(tmp_path / "a.yaml", "a")
        await until(lambda: paths(store) == {"/a"})
        (tmp_path / "b.yaml").write_text("entries: 3\n")
        await until(lambda: f"{tmp_path}/b.yaml:1" in one.fault)
        write(tmp_path / "b.yaml", "b")
        await until(lambda: paths(store) == {"/a", "/b"})
        assert one.fault == ""


async def test_a_folder_that_comes_later_is_waited_for(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    one = folder(registry, tmp_path / "later")
    async with watching(one):
        await until(lambda: "is not applied" in one.fault)
        write(tmp_path / "later" / "a.yaml", "a")
        await until(lambda: paths(store) == {"/a"})


async def test_a_file_that_is_being_written_is_not_taken_for_a_whole_one(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    names = [f"n{number}" for number in range(40)]
    write(tmp_path / "a.yaml", *names)
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=True, every=timedelta(hours=1), look=timedelta(seconds=0.4))
    async with watching(one):
        await until(lambda: len(store.entries) == 40)
        for count in range(1, 41):  # slower than a look all in all, never at rest
            write(tmp_path / "a.yaml", *names[:count])
            await asyncio.sleep(0.03)
            assert len(store.entries) == 40
    assert not [event for event in store.events if event.action == "entry.delete"]


async def test_what_others_did_to_the_set_is_put_right(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "a.yaml", "a")
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=True, every=timedelta(0), look=timedelta(0))
    async with watching(one):
        await until(lambda: paths(store) == {"/a"})
        await registry.create([entry("extra", apply_set="s"), entry("other")], "uid:0")
        await until(lambda: paths(store) == {"/a", "/other"})
