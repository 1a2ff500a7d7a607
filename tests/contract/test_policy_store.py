"""What authz.stored.PolicyStore promises, on both databases; and the use cases over it, from several servers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from citadel.authz.sources import KeptPolicies, PolicySource
from citadel.authz.stored import StoredSet, StoreOrigin, Wish
from citadel.changes import Topic
from citadel.errors import Aborted, CitadelError, NotFound
from citadel.store import Store
from tests.support.clock import ManualClock
from tests.support.policies import FACTS, document, file, key, record, use_cases, version


def bodies(found: StoredSet) -> dict[str, tuple[str, int]]:
    return {one.key.name.name: (one.body, one.since) for one in found.documents}


async def test_every_version_can_be_read_again(store: Store) -> None:
    policies = store.policies
    assert await policies.current() == StoredSet()
    assert await policies.newest() is None
    await policies.commit(version(1), [document("a", "1"), document("b", "1")], [], record(1))
    await policies.commit(version(2), [document("b", "2"), document("c", "2")], [key("a")], record(2))
    await policies.commit(version(3), [document("a", "3")], [key("c")], record(3))
    assert bodies(await policies.at(1)) == {"a": ("1", 1), "b": ("1", 1)}
    assert bodies(await policies.at(2)) == {"b": ("2", 2), "c": ("2", 2)}
    assert bodies(await policies.current()) == bodies(await policies.at(3)) == {"a": ("3", 3), "b": ("2", 2)}
    assert (await policies.current()).version == await policies.newest() == version(3)
    with pytest.raises(NotFound, match="v4"):
        await policies.at(4)
    assert [line.body.count(b'"v') for line in await store.audit.read("one", 0, 10)] == [1, 1, 1]


async def test_the_history_is_told_newest_first_and_of_one_document(store: Store) -> None:
    policies = store.policies
    await policies.commit(version(1), [document("a", "1"), document("b", "1")], [], record(1))
    await policies.commit(version(2), [document("b", "2")], [], record(2))
    await policies.commit(version(3), [], [key("a")], record(3))
    assert await policies.versions(10) == [version(3), version(2), version(1)]
    assert [one.number for one in await policies.versions(1, before=3)] == [2]
    assert [one.number for one in await policies.versions(10, key=key("a"))] == [3, 1]
    assert [one.number for one in await policies.versions(10, key=key("b"))] == [2, 1]
    assert await policies.versions(10, key=key("c")) == []


async def test_a_set_is_found_by_what_decisions_call_it(store: Store) -> None:
    for number, name in ((1, "x"), (2, "y"), (3, "x")):
        await store.policies.commit(version(number, set_version=name), [], [], record(number))
    assert await store.policies.version_of("x") == version(3, set_version="x")
    assert await store.policies.version_of("z") is None


async def test_of_two_changes_at_once_one_is_told_and_changes_nothing(url: str) -> None:
    async with Store.open(url, writer="one") as one:
        if one.kind == "sqlite":
            outcomes = await asyncio.gather(
                one.policies.commit(version(1), [document("a")], [], record(1)),
                one.policies.commit(version(1), [document("b")], [], record(1)),
                return_exceptions=True,
            )
        else:
            async with Store.open(url, writer="two") as two:
                outcomes = await asyncio.gather(
                    one.policies.commit(version(1), [document("a")], [], record(1)),
                    two.policies.commit(version(1), [document("b")], [], record(1)),
                    return_exceptions=True,
                )
        (lost,) = [outcome for outcome in outcomes if outcome is not None]
        assert isinstance(lost, Aborted)
        assert len((await one.policies.current()).documents) == 1
        with pytest.raises(Aborted):
            await one.policies.commit(version(3), [document("c")], [], record(3))


async def test_a_change_is_announced_to_every_server(url: str) -> None:
    async with Store.open(url, writer="one") as one:
        async with one.changes.subscribe([Topic.POLICIES]) as news:
            await one.policies.commit(version(1), [document("a")], [], record(1))
            assert await asyncio.wait_for(anext(news), 10) is Topic.POLICIES
        if one.kind == "sqlite":
            return
        async with Store.open(url, writer="two") as two, two.changes.subscribe([Topic.POLICIES]) as news:
            await asyncio.wait_for(anext(news), 10)  # it listens: everything is announced once
            await one.policies.commit(version(2), [document("b")], [], record(2))
            assert await asyncio.wait_for(anext(news), 10) is Topic.POLICIES
            assert len((await two.policies.current()).documents) == 2


async def test_two_operators_who_change_it_at_once_do_not_lose_one_anothers_work(store: Store) -> None:
    await use_cases(store.policies).apply([file("a", "b")], Wish("uid:0"))
    outcomes = await asyncio.gather(
        *(use_cases(store.policies).apply([file(name)], Wish(f"uid:{name}", base=1)) for name in "cdef"),
        return_exceptions=True,
    )
    told = [outcome for outcome in outcomes if isinstance(outcome, CitadelError)]
    assert len(told) == 3
    assert all(isinstance(one, Aborted) and "changed meanwhile: v2 by uid:" in one.message for one in told)
    assert len((await store.policies.current()).documents) == 3


@pytest.mark.postgres
async def test_what_is_applied_at_one_server_decides_at_the_other_at_once(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        pytest.skip("one process holds a SQLite")
    async with Store.open(url, writer="one") as one, Store.open(url, writer="two") as two:
        origin = StoreOrigin(two.policies, two.changes, heartbeat=3600)
        source = PolicySource(origin, FACTS, KeptPolicies(tmp_path / "last.json"), ManualClock())
        task = asyncio.create_task(source.run())
        try:
            for names in ("ab", "abc"):
                done = await use_cases(one.policies).apply([file(*names)], Wish("uid:0"))
                assert done.version is not None
                assert await source.reached(done.version.set_version, 20)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
