"""What authz.entities.EntityStore promises, on both databases; and the use cases and the source over it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from citadel.audit import AuditEvent
from citadel.authz.entities import Actor, Entity, EntityDirectory, EntityWish, StoredEntities, StoreEntities
from citadel.authz.entities.ports import EntityKey, EntityVersion
from citadel.authz.load import SourceText
from citadel.changes import Topic
from citadel.errors import Aborted, BadFile, CitadelError, NotFound, Unavailable
from citadel.store import Store
from tests.support.clock import ManualClock
from tests.support.tokens import NOW

ANN, BEN = Entity("user", "ann", {"tier": "gold", "levels": [1, 2.5, True, None]}), Entity("user", "ben")
ODD = Entity("a\0 b/", "ü\0/\ud800", {"x": "\0"})
READ = Actor("can_read", {"a": 1}, frozenset({"record", "account"}))
ME = EntityWish("uid:0")


def audit(number: int) -> AuditEvent:
    return AuditEvent(NOW, "uid:0", "entity.apply", f"v{number}", {})


def everything(found: EntityVersion) -> tuple[int, list[Entity], list[Actor]]:
    entities = sorted(found.directory.entities, key=lambda one: (one.type, one.id))
    return found.number, entities, list(found.directory.actions)


async def test_what_was_put_is_there_as_it_was(store: Store) -> None:
    assert (everything(await store.entities.current()), await store.entities.number()) == ((0, [], []), 0)
    await store.entities.commit(1, [BEN, ANN, ODD, READ], [], audit(1))
    assert everything(await store.entities.current()) == (1, [ODD, ANN, BEN], [READ])
    other = Entity("user", "ann", {"tier": "none"})
    await store.entities.commit(2, [other], [EntityKey("user", "ben"), EntityKey(None, "can_read")], audit(2))
    assert everything(await store.entities.current()) == (2, [ODD, other], [])
    assert await store.entities.number() == 2
    assert len(await store.audit.read("one", 0, 10)) == 2


async def test_a_user_and_an_action_of_one_name_are_two(store: Store) -> None:
    await store.entities.commit(1, [Entity("user", "a"), Actor("a"), Entity("a", "user")], [], audit(1))
    await store.entities.commit(2, [], [EntityKey(None, "a")], audit(2))
    assert everything(await store.entities.current()) == (2, [Entity("a", "user"), Entity("user", "a")], [])


async def test_pages_come_to_the_whole(store: Store) -> None:
    users = [Entity("user", str(number)) for number in range(7)]
    await store.entities.commit(1, [*users, Entity("group", "x"), READ], [], audit(1))

    async def pages(size: int, kind: str | None) -> list[Any]:
        found: list[Any] = []
        after = ""
        while True:
            page, after = await store.entities.page(after, size, kind)
            assert len(page) <= size
            found += page
            if not after:
                return found

    for size in (1, 3, 7, 9, 100):
        assert sorted(one.id for one in await pages(size, "user")) == [str(number) for number in range(7)]
        assert len(await pages(size, None)) == 9
    assert await pages(5, "nobody") == []


async def test_of_two_changes_at_once_one_is_told_and_changes_nothing(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.entities.commit(1, [one], [], audit(1)) for one in (ANN, BEN)), return_exceptions=True
    )
    (lost,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(lost, Aborted)
    assert len((await store.entities.current()).directory) == 1
    with pytest.raises(Aborted):
        await store.entities.commit(3, [BEN], [], audit(3))


def text(content: str, name: str = "e.yaml") -> SourceText:
    return SourceText(name, content.encode())


async def test_operators_who_change_it_at_once_do_not_lose_one_another_s_work(store: Store) -> None:
    cases = StoredEntities(store.entities, ManualClock(NOW))
    await asyncio.gather(
        *(cases.apply([text(f"entities: [{{type: user, id: u{number}}}]")], ME) for number in range(4))
    )
    found = await store.entities.current()
    assert (found.number, len(found.directory)) == (4, 4)


async def test_a_change_says_what_it_does_and_a_dry_run_does_nothing(store: Store) -> None:
    cases = StoredEntities(store.entities, ManualClock(NOW))
    first = text("entities: [{type: user, id: a, properties: {n: 1}}, {type: user, id: b}]\nactions: [{name: GET}]")
    done = await cases.apply([first], EntityWish("uid:0", "the first"))
    assert (done.number, len(done.created), done.unchanged) == (1, 3, 0)
    assert (await cases.apply([first], ME)).number == 1  # nothing to do: no version
    second = text("entities: [{type: user, id: a, properties: {n: true}}, {type: user, id: c}]")
    for dry_run in (True, False):
        done = await cases.apply([second], EntityWish("uid:0", dry_run=dry_run), prune=True)
        assert done.number == (1 if dry_run else 2)
        assert [*map(str, done.created)] == ["user c"]
        assert [*map(str, done.updated)] == ["user a"]
        assert [*map(str, done.deleted)] == ["action GET", "user b"]
    with pytest.raises(NotFound, match="there is no action PUT, no user x"):
        await cases.delete([EntityKey("user", "x"), EntityKey("user", "a"), EntityKey(None, "PUT")], ME)
    done = await cases.delete([EntityKey("user", "a")], ME)
    assert (done.number, done.unchanged) == (3, 1)
    lines = [line.body.decode() for line in await store.audit.read("one", 0, 10)]
    assert [sum(word in line for line in lines) for word in ("entity.apply", "entity.delete", "the first")] == [
        2,
        1,
        1,
    ]


async def test_a_mistake_in_any_file_changes_nothing(store: Store) -> None:
    cases = StoredEntities(store.entities, ManualClock(NOW))
    good, bad = text("entities: [{type: user, id: a}]", "good.yaml"), text("entities: [{type: user}]", "bad.yaml")
    with pytest.raises(BadFile, match=r"bad\.yaml"):
        await cases.apply([good, bad], ME)
    with pytest.raises(BadFile, match="user a is in another of these files too"):
        await cases.apply([good, text("entities: [{type: user, id: a}]", "again.yaml")], ME)
    assert await store.entities.number() == 0
    assert (await cases.apply([text("entities: []")], ME)).number == 1  # an empty directory may be meant


async def test_the_store_is_followed_and_before_there_is_anything_there_is_no_directory(store: Store) -> None:
    source = StoreEntities(store.entities, store.changes)
    running = asyncio.create_task(source.run())
    cases = StoredEntities(store.entities, ManualClock(NOW))
    try:
        async with asyncio.timeout(20):
            while not source.fault:
                await asyncio.sleep(0.01)
            assert (source.directory, "citadel entity apply" in source.fault) == (None, True)
            await cases.apply([text("entities: [{type: user, id: a, properties: {n: 1}}]")], ME)
            while source.directory is None:
                await asyncio.sleep(0.01)
            assert (source.fault, source.directory.properties("user", "a")) == ("", {"n": 1})
            await cases.delete([EntityKey("user", "a")], ME)
            while len(source.directory):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_what_was_known_stays_while_the_store_does_not_answer(store: Store) -> None:
    class Away:
        """Contract: EntityStore, whose database comes and goes."""

        away: CitadelError | None = None

        async def number(self) -> int:
            if self.away is not None:
                raise self.away
            return await store.entities.number()

        async def current(self) -> EntityVersion:
            if self.away is not None:
                raise self.away
            return await store.entities.current()

    away = Away()
    source = StoreEntities(away, store.changes)  # type: ignore[arg-type]  # a store that is away
    await store.entities.commit(1, [ANN], [], audit(1))
    await source.read()
    away.away = Unavailable("the database is gone")
    await source.read()
    assert source.directory is not None
    assert (len(source.directory), "the database is gone" in source.fault) == (1, True)
    await store.entities.commit(2, [BEN], [], audit(2))
    away.away = None
    await source.read()
    assert (len(source.directory), source.fault) == (2, "")


async def test_a_change_is_announced(store: Store) -> None:
    async with store.changes.subscribe([Topic.ENTITIES]) as news:
        await store.entities.commit(1, [ANN], [], audit(1))
        assert await asyncio.wait_for(anext(news), 10) is Topic.ENTITIES


def test_a_directory_gives_back_what_it_was_made_of() -> None:
    directory = EntityDirectory([BEN, ANN, ODD], [READ])
    assert list(directory.entities) == [BEN, ANN, ODD]
    assert list(directory.actions) == [READ]
