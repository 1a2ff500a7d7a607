from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.config import read_entry_files
from citadel.errors import BadFile, FailedPrecondition
from citadel.jobs.folder import EntryFolder
from citadel.registry import Registry, RegistryPolicy
from tests.support.clock import ManualClock
from tests.support.registry import NODE, TD, MemoryEntryStore, entry
from tests.support.waiting import until

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
        registry,
        NODE,
        path,
        "s",
        prune=prune,
        every=timedelta(hours=1),
        rest=timedelta(milliseconds=20),
        heartbeat=3600,
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
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=True, every=timedelta(hours=1), rest=timedelta(seconds=0.4))
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
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=True, every=timedelta(0), rest=timedelta(0), heartbeat=0.02)
    async with watching(one):
        await until(lambda: paths(store) == {"/a"})
        await registry.create([entry("extra", apply_set="s"), entry("other")], "uid:0")
        await until(lambda: paths(store) == {"/a", "/other"})


async def test_a_swap_as_kubernetes_does_it_is_applied_whole(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    """Files are links into `..data`, which is a link to the present version and is replaced in one rename."""
    mount = tmp_path / "mount"
    mount.mkdir()
    write(mount / "..1" / "a.yaml", "a")
    write(mount / "..1" / "b.yaml", "b")
    (mount / "..data").symlink_to("..1")
    for name in ("a.yaml", "b.yaml"):
        (mount / name).symlink_to(f"..data/{name}")
    one = folder(registry, mount, prune=True)
    async with watching(one):
        await until(lambda: paths(store) == {"/a", "/b"})
        before = len(store.events)
        write(mount / "..2" / "a.yaml", "a2")
        write(mount / "..2" / "b.yaml", "b2")
        (mount / "..tmp").symlink_to("..2")
        (mount / "..tmp").rename(mount / "..data")
        await until(lambda: paths(store) == {"/a2", "/b2"})
    assert len(store.events) == before + 4  # in one application: two created, two deleted


async def test_a_folder_that_is_a_link_may_be_swapped(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "v1" / "a.yaml", "a")
    write(tmp_path / "v2" / "a.yaml", "b")
    link = tmp_path / "current"
    link.symlink_to("v1")
    async with watching(folder(registry, link, prune=True)):
        await until(lambda: paths(store) == {"/a"})
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(link)
        await until(lambda: paths(store) == {"/b"})
        write(tmp_path / "v2" / "a.yaml", "c")  # it is the new one that is watched now
        await until(lambda: paths(store) == {"/c"})


async def test_a_file_that_is_replaced_in_one_rename_is_applied(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "a.yaml", "a")
    async with watching(folder(registry, tmp_path, prune=True)):
        await until(lambda: paths(store) == {"/a"})
        write(tmp_path / "a.yaml.tmp", "b")
        (tmp_path / "a.yaml.tmp").rename(tmp_path / "a.yaml")
        await until(lambda: paths(store) == {"/b"})


async def test_a_folder_that_is_replaced_is_followed(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path
) -> None:
    write(tmp_path / "d" / "a.yaml", "a")
    write(tmp_path / "other" / "a.yaml", "b")
    async with watching(folder(registry, tmp_path / "d", prune=True)):
        await until(lambda: paths(store) == {"/a"})
        (tmp_path / "d").rename(tmp_path / "old")
        (tmp_path / "other").rename(tmp_path / "d")
        await until(lambda: paths(store) == {"/b"})
        write(tmp_path / "d" / "a.yaml", "c")
        await until(lambda: paths(store) == {"/c"})


async def test_where_the_kernel_gives_no_events_the_folder_is_looked_at(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_events(*_: object, **__: object) -> AsyncIterator[None]:
        async def fail() -> AsyncIterator[None]:
            raise OSError("No space left on device: the limit of inotify watches is reached")
            yield

        return fail()

    monkeypatch.setattr("citadel.stir.awatch", no_events)
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=False, rest=timedelta(0), heartbeat=0.02)
    async with watching(one):
        write(tmp_path / "a.yaml", "a")
        await until(lambda: paths(store) == {"/a"})


async def test_files_that_change_while_they_are_read_are_read_again(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.yaml", "old")
    reads = 0

    def read_and_be_overtaken(paths: list[Path]) -> object:
        nonlocal reads
        found = read_entry_files(paths)
        reads += 1
        if reads == 1:
            write(tmp_path / "a.yaml", "newer")
        return found

    monkeypatch.setattr("citadel.jobs.folder.read_entry_files", read_and_be_overtaken)
    async with watching(folder(registry, tmp_path)):
        await until(lambda: paths(store) == {"/newer"})
    assert [event.action for event in store.events] == ["entry.create"]


async def test_files_that_stay_as_they_are_are_read_once_and_applied_again(
    registry: Registry, store: MemoryEntryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.yaml", "a")
    reads = 0

    def read(paths: list[Path]) -> object:
        nonlocal reads
        reads += 1
        return read_entry_files(paths)

    monkeypatch.setattr("citadel.jobs.folder.read_entry_files", read)
    one = EntryFolder(registry, NODE, tmp_path, "s", prune=True, every=timedelta(0), rest=timedelta(0), heartbeat=0.02)
    async with watching(one):
        await until(lambda: paths(store) == {"/a"})
        for _ in range(3):
            await registry.create([entry("extra", apply_set="s")], "uid:0")
            await until(lambda: paths(store) == {"/a"})
    assert reads == 1
