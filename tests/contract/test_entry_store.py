"""What registry.ports.EntryStore promises: in memory, and in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from citadel.audit import AuditEvent
from citadel.changes import Topic
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.registry import Entry, Selector
from citadel.registry.ports import Edit, EntryNews, EntryQuery, EntryStore, Match
from citadel.spiffe import TrustDomain
from citadel.store import engine
from citadel.store.store import Store
from tests.support import postgres
from tests.support.registry import MemoryEntryStore, entry

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def event(subject: str) -> AuditEvent:
    return AuditEvent(NOW, "uid:0", "entry.test", subject)


def creating(*entries: Entry) -> Edit:
    return Edit(create=[(e, event(e.id)) for e in entries])


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, texts))


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EntryStore]:
    if request.param == "memory":
        yield MemoryEntryStore()
        return
    url = f"sqlite:///{tmp_path}/db/citadel.db"
    if request.param == "postgresql":
        url = await postgres.new_database(request.getfixturevalue("postgres_server"))
    async with Store.open(url, writer="a") as opened:
        yield opened.entries


async def test_all_that_is_in_the_way_of_an_edit_is_found(store: EntryStore) -> None:
    a, b, c = [(await store.edit(creating(entry(name)), NOW))[0] for name in "abc"]
    edit = Edit(
        create=[(new, event(new.id)) for new in (replace(a, id="x"), replace(b, id="y"), entry("d"), entry("c"))],
        update=[(replace(c, spiffe_id=a.spiffe_id), event("c"))],
        delete=[("b", event("b"))],
    )
    found = [(one.id, field) for one, field, _ in await store.in_the_way(edit)]
    assert found == [("x", "spiffe_id"), ("c", "id"), ("c", "spiffe_id")]
    assert await store.in_the_way(Edit(create=edit.create[1:3], delete=edit.delete)) == []


async def test_what_was_created_comes_back_whole(store: EntryStore) -> None:
    full = entry(
        "cart",
        "unix:uid:1000",
        "unix:path:/usr/bin/cart",
        x509_ttl=timedelta(minutes=30),
        jwt_ttl=timedelta(milliseconds=1500),
        dns_names=("cart.shop", "cart"),
        federates_with=frozenset({TrustDomain("other.org")}),
        hint="für den Wagen",
        admin=True,
        downstream=True,
        store_svid=True,
        expires_at=NOW + timedelta(days=1, microseconds=7),
        apply_set="shop",
        labels=(("app", "cart"), ("tier", "")),
    )
    [stored] = await store.edit(creating(full), NOW)
    assert stored == replace(full, created_at=NOW, revision=0)
    assert await store.get("cart") == stored
    assert await store.all() == [stored]


async def test_an_update_counts_up_and_keeps_the_creation(store: EntryStore) -> None:
    [old] = await store.edit(creating(entry("cart")), NOW)
    change = Edit(update=[(replace(old, hint="new"), event("cart"))])
    [new] = await store.edit(change, NOW + timedelta(hours=1))
    assert (new.revision, new.hint, new.created_at) == (1, "new", NOW)
    with pytest.raises(Aborted):  # its maker read revision 0, and somebody was quicker
        await store.edit(change, NOW)
    assert await store.get("cart") == new


async def test_two_who_change_one_entry_at_once_do_not_overwrite_each_other(store: EntryStore) -> None:
    [old] = await store.edit(creating(entry("cart")), NOW)
    edits = [store.edit(Edit(update=[(replace(old, hint=str(n)), event("cart"))]), NOW) for n in range(5)]
    results = await asyncio.gather(*edits, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Aborted"] * 4 + ["list"]
    assert (await store.get("cart")).revision == 1


@pytest.mark.parametrize("other", [entry("other"), entry("cart", "unix:uid:1")])
async def test_a_duplicate_and_a_taken_id_are_refused(store: EntryStore, other: Entry) -> None:
    await store.edit(creating(entry("cart")), NOW)
    twin = replace(entry("cart"), id=other.id) if other.id == "other" else other
    with pytest.raises(AlreadyExists) as caught:
        await store.edit(creating(twin), NOW)
    assert "cart" in caught.value.sentence()
    assert [e.id for e in await store.all()] == ["cart"]


async def test_an_update_into_a_duplicate_is_refused(store: EntryStore) -> None:
    _, b = await store.edit(creating(entry("a"), entry("b")), NOW)
    with pytest.raises(AlreadyExists):
        await store.edit(Edit(update=[(replace(b, spiffe_id=entry("a").spiffe_id), event("b"))]), NOW)


async def test_an_edit_is_done_whole_or_not_at_all(store: EntryStore) -> None:
    [old] = await store.edit(creating(entry("old")), NOW)
    for broken in (
        Edit(create=[(entry("new"), event("new"))], delete=[("nobody", event("nobody"))]),
        Edit(create=[(entry("new"), event("new"))], update=[(replace(old, revision=7), event("old"))]),
        Edit(create=[(entry("new"), event("new")), (replace(entry("x"), selectors=frozenset()), event("x"))]),
        Edit(create=[(entry("new"), event("new"))], delete=[("old", event("old")), ("old", event("old"))]),
    ):
        with pytest.raises((NotFound, Aborted, InvalidInput)):
            await store.edit(broken, NOW)
        assert await store.all() == [old]


async def test_in_one_edit_what_is_deleted_makes_room(store: EntryStore) -> None:
    await store.edit(creating(entry("cart")), NOW)
    twin = replace(entry("cart"), id="cart-2")
    await store.edit(Edit(create=[(twin, event("cart-2"))], delete=[("cart", event("cart"))]), NOW)
    assert [e.id for e in await store.all()] == ["cart-2"]


async def test_in_one_edit_entries_trade_places(store: EntryStore) -> None:
    a, b = await store.edit(creating(entry("a"), entry("b")), NOW)
    swap = [(replace(a, spiffe_id=b.spiffe_id), event("a")), (replace(b, spiffe_id=a.spiffe_id), event("b"))]
    await store.edit(Edit(update=swap), NOW)
    assert [e.spiffe_id.path for e in await store.all()] == ["/b", "/a"]


async def test_the_log_tells_what_changed_after_a_position_and_what_is_gone(store: EntryStore) -> None:
    a, _ = await store.edit(creating(entry("a"), entry("b")), NOW)
    begun = await store.news(None)
    assert begun.whole
    assert {e.id for e in begun.changed} == {"a", "b"}
    assert await store.news(begun.position) == EntryNews(begun.position, ())
    [a] = await store.edit(Edit(update=[(replace(a, hint="x"), event("a"))]), NOW)
    [c] = await store.edit(Edit(create=[(entry("c"), event("c"))], delete=[("b", event("b"))]), NOW)
    await store.edit(creating(entry("d")), NOW)
    await store.edit(Edit(delete=[("d", event("d"))]), NOW)
    news = await store.news(begun.position)
    assert not news.whole
    assert (set(news.changed), set(news.gone)) == ({a, c}, {"b", "d"})
    assert await store.news(news.position) == EntryNews(news.position, ())


async def test_many_changes_are_told_in_parts(store: EntryStore) -> None:
    begun = await store.news(None)
    await store.edit(creating(*(entry(f"e{n}", f"unix:uid:{n}") for n in range(2500))), NOW)
    seen: set[str] = set()
    position, more = begun.position, True
    while more:
        news = await store.news(position)
        seen |= {e.id for e in news.changed}
        position, more = news.position, news.more
    assert len(seen) == 2500


async def test_a_position_that_the_log_does_not_know_gets_everything(store: EntryStore) -> None:
    [a] = await store.edit(creating(entry("a")), NOW)
    news = await store.news(1000)
    assert (news.changed, news.whole) == ((a,), True)


async def test_what_was_refused_is_not_in_the_log(store: EntryStore) -> None:
    await store.edit(creating(entry("a")), NOW)
    begun = await store.news(None)
    with pytest.raises(NotFound):
        await store.edit(Edit(create=[(entry("b"), event("b"))], delete=[("nobody", event("nobody"))]), NOW)
    assert await store.news(begun.position) == EntryNews(begun.position, ())


async def test_who_is_not_there_is_not_found(store: EntryStore) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        await store.get("nobody")
    with pytest.raises(NotFound, match="'nobody'"):
        await store.edit(Edit(delete=[("nobody", event("nobody"))]), NOW)
    with pytest.raises(NotFound, match="'nobody'"):
        await store.edit(Edit(update=[(entry("nobody"), event("nobody"))]), NOW)


A, AB, B, C = (
    entry("a", "unix:uid:1"),
    entry("ab", "unix:uid:1", "unix:gid:1", hint="x", apply_set="shop"),
    entry("b", "unix:gid:1", downstream=True, parent="/a"),
    entry("c", "unix:uid:3", federates_with=frozenset({TrustDomain("other.org")})),
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (EntryQuery(), ["a", "ab", "b", "c"]),
        (EntryQuery(spiffe_id=A.spiffe_id), ["a"]),
        (EntryQuery(parent_id=A.spiffe_id), ["b"]),
        (EntryQuery(hint="x"), ["ab"]),
        (EntryQuery(id_prefix="a"), ["a", "ab"]),
        (EntryQuery(id_prefix="A"), []),
        (EntryQuery(id_prefix="%"), []),
        (EntryQuery(downstream=True), ["b"]),
        (EntryQuery(downstream=False), ["a", "ab", "c"]),
        (EntryQuery(apply_set="shop"), ["ab"]),
        (EntryQuery(selectors=(selectors("unix:uid:1"), Match.EXACT)), ["a"]),
        (EntryQuery(selectors=(selectors("unix:uid:1", "unix:gid:1"), Match.SUBSET)), ["a", "ab", "b"]),
        (EntryQuery(selectors=(selectors("unix:uid:1"), Match.SUPERSET)), ["a", "ab"]),
        (EntryQuery(selectors=(selectors("unix:gid:1", "unix:uid:3"), Match.ANY)), ["ab", "b", "c"]),
        (EntryQuery(federates_with=(frozenset({TrustDomain("other.org")}), Match.ANY)), ["c"]),
        (EntryQuery(spiffe_id=A.spiffe_id, hint="x"), []),
        (EntryQuery(limit=2), ["a", "ab"]),
        (EntryQuery(limit=2, after="ab"), ["b", "c"]),
        (EntryQuery(limit=1, downstream=False, after="ab"), ["c"]),
    ],
)
async def test_a_query_finds_what_it_says(store: EntryStore, query: EntryQuery, found: list[str]) -> None:
    await store.edit(creating(C, B, AB, A), NOW)
    assert [e.id for e in await store.find(query)] == found
    everything = replace(query, limit=1000, after="")
    assert await store.count(everything) == len(await store.find(everything))


async def test_pages_of_many_entries_hold_each_of_them_once(store: EntryStore) -> None:
    await store.edit(creating(*(entry(f"e{n:04}", f"unix:uid:{n}", downstream=n % 3 == 0) for n in range(1200))), NOW)
    seen: list[str] = []
    while page := await store.find(EntryQuery(downstream=False, limit=300, after=seen[-1] if seen else "")):
        seen += [e.id for e in page]
    assert seen == [f"e{n:04}" for n in range(1200) if n % 3]


async def test_expired_is_what_ends_now_or_ended_before(store: EntryStore) -> None:
    ends = {"past": -1, "now": 0, "later": 1}
    await store.edit(
        creating(entry("never"), *(entry(n, expires_at=NOW + timedelta(seconds=s)) for n, s in ends.items())), NOW
    )
    assert {e.id for e in await store.expired(NOW, 10)} == {"past", "now"}
    assert len(await store.expired(NOW, 1)) == 1


async def test_an_edit_is_announced_once_it_can_be_read_and_audited_with_it(tmp_path: Path) -> None:
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="a") as store:
        async with store.changes.subscribe([Topic.ENTRIES]) as changes:
            with pytest.raises(NotFound):
                await store.entries.edit(Edit(delete=[("nobody", event("nobody"))]), NOW)
            await store.entries.edit(creating(entry("cart")), NOW)
            async with asyncio.timeout(5):
                assert await anext(changes) is Topic.ENTRIES
            assert [e.id for e in await store.entries.all()] == ["cart"]
        bodies = [line.body for line in await store.audit.read("a", 0, 10)]
    assert len(bodies) == 1
    assert b'"subject":"cart"' in bodies[0]


async def test_a_log_that_was_shortened_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citadel.store.entries._LOG_KEPT", 3)
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="a") as store:
        await store.entries.edit(creating(entry("a")), NOW)
        begun = await store.entries.news(None)
        for number in range(3):
            await store.entries.edit(creating(entry(f"n{number}")), NOW)
        assert not (await store.entries.news(begun.position)).whole
        await store.entries.edit(creating(entry("n3")), NOW)
        assert (await store.entries.news(begun.position)).whole


async def test_what_was_there_before_the_log_is_found_and_the_way_back_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db/citadel.db"
    full = entry("a", hint="x", downstream=True, federates_with=frozenset({TrustDomain("other.org")}))
    query = EntryQuery(hint="x", downstream=True, selectors=(full.selectors, Match.EXACT))
    async with Store.open(url, writer="a") as store:
        [stored] = await store.entries.edit(creating(full), NOW)
        await engine.downgrade(engine.parse_url(url), "0001")
    async with Store.open(url, writer="a") as store:
        assert await store.entries.find(query) == [stored]
        assert await store.entries.find(EntryQuery(federates_with=(full.federates_with, Match.ANY))) == [stored]
        assert (await store.entries.news(None)).changed == (stored,)
