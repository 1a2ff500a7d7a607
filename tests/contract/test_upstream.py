"""What workload.upstream.Upstream promises; here by LocalUpstream, over the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from citadel.api.local import LocalUpstream
from citadel.audit import AuditEvent
from citadel.ca.issuer import IssuancePolicy, Issuer
from citadel.ca.model import TrustBundle
from citadel.changes import Topic
from citadel.clock import Clock, SystemClock
from citadel.errors import PermissionDenied, Unavailable
from citadel.registry import Directory, Registry, RegistryPolicy, directory
from citadel.registry.ports import EntryNews
from citadel.store import Store
from citadel.store.changes import LocalChanges
from citadel.workload.upstream import AssignedEntry, EntryUpdate, SignedSvid, SvidRequest
from tests.support import postgres
from tests.support.clock import ManualClock
from tests.support.issuance import CurrentAuthority, make_chain, make_csr
from tests.support.registry import NODE, TD, MemoryEntryStore, entry

POLICY = RegistryPolicy(timedelta(seconds=1), timedelta(days=1))


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


class Side:
    """A server's registry, and the upstream of a node that is attached to it."""

    def __init__(self, registry: Registry, upstream: LocalUpstream, store: Store) -> None:
        self.registry = registry
        self.upstream = upstream
        self.store = store


@asynccontextmanager
async def serving(url: str, writer: str, clock: Clock | None = None) -> AsyncIterator[Side]:
    now = clock or SystemClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(url, writer=writer))
        registry = Registry(store.entries, TD, now, POLICY)
        served = Directory(store.entries, store.changes, now)
        stack.push_async_callback(_ended, asyncio.create_task(served.run()))
        chain = await make_chain(now=datetime.now(UTC))
        issuer = Issuer(CurrentAuthority(chain.signing_authority()), store.issuance, now, IssuancePolicy())
        upstream = LocalUpstream(NODE, served, now, store.authorities, issuer, store.clients, store.changes)
        yield Side(registry, upstream, store)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    async with serving(f"sqlite:///{tmp_path}/db/citadel.db", "one") as one:
        yield one


async def following(updates: AsyncIterator[EntryUpdate], until: set[str]) -> dict[str, AssignedEntry]:
    """What somebody knows who takes every update, once the ids are `until`."""
    known: dict[str, AssignedEntry] = {}
    async with asyncio.timeout(20):
        async for update in updates:
            if update.whole:
                known = {}
            known |= {e.id: e for e in update.changed}
            for entry_id in update.gone:
                known.pop(entry_id, None)
            if known.keys() == until:
                break
    return known


async def next_of(updates: AsyncIterator[EntryUpdate]) -> EntryUpdate:
    async with asyncio.timeout(20):
        return await anext(updates)


async def test_a_watch_gives_everything_first_and_then_only_what_changed(side: Side) -> None:
    [a] = await side.registry.create([entry("a")], "uid:0")
    await side.registry.create([entry("far", parent="/spire/agent/other")], "uid:0")
    async with side.upstream.entries() as earlier:
        await following(earlier, {"a"})
    async with side.upstream.entries() as updates:
        first = await next_of(updates)
        assert ([e.id for e in first.changed], first.whole) == (["a"], True)
        await side.registry.create([entry("b", "unix:uid:1", labels=(("app", "b"),))], "uid:0")
        second = await next_of(updates)
        assert ([e.id for e in second.changed], second.gone, second.whole) == (["b"], frozenset(), False)
        assert second.changed[0].labels == (("app", "b"),)
        await side.registry.update([replace(a, hint="x")], "uid:0")
        [changed] = (await next_of(updates)).changed
        assert (changed.id, changed.hint, changed.revision) == ("a", "x", 1)
        await side.registry.delete(["b"], "uid:0")
        assert await next_of(updates) == EntryUpdate((), frozenset({"b"}))


async def test_what_is_served_below_an_entry_comes_and_goes_with_it(side: Side) -> None:
    async with side.upstream.entries() as updates:
        await side.registry.create([entry("below", parent="/above")], "uid:0")
        assert (await next_of(updates)).changed == ()
        await side.registry.create([entry("above")], "uid:0")
        assert {e.id for e in (await next_of(updates)).changed} == {"above", "below"}
        await side.registry.delete(["above"], "uid:0")
        assert (await next_of(updates)).gone == {"above", "below"}


async def test_an_entry_is_gone_when_its_time_is_over_whether_the_job_came_by_or_not(side: Side) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=1)
    await side.registry.create([entry("a", expires_at=ends)], "uid:0")
    async with side.upstream.entries() as updates:
        await following(updates, {"a"})
        assert (await next_of(updates)).gone == {"a"}
    assert datetime.now(UTC) >= ends
    [answer] = await side.upstream.sign([SvidRequest("a", make_csr())])
    assert isinstance(answer, PermissionDenied)


async def test_a_certificate_is_signed_for_what_the_node_may_serve_and_for_nothing_else(side: Side) -> None:
    csr = make_csr(uris=["spiffe://example.org/a"])
    await side.registry.create([entry("a"), entry("far", parent="/spire/agent/other")], "uid:0")
    async with side.upstream.entries() as updates:
        await following(updates, {"a"})
    mine, others, nobodys = await side.upstream.sign([SvidRequest(i, csr) for i in ("a", "far", "nobody")])
    assert isinstance(mine, SignedSvid)
    assert mine.spiffe_id.path == "/a"
    for refused in (others, nobodys):
        assert isinstance(refused, PermissionDenied)
    async with side.upstream.entries() as updates:
        await next_of(updates)
        await side.registry.delete(["a"], "uid:0")
        await following(updates, set())
    [late] = await side.upstream.sign([SvidRequest("a", csr)])
    assert isinstance(late, PermissionDenied)


async def test_bundles_come_when_our_own_exists_and_at_each_change(side: Side) -> None:
    event = AuditEvent(datetime.now(UTC), "uid:0", "bundle.put", TD.name)
    async with side.upstream.bundles() as bundles:
        waiting = asyncio.ensure_future(anext(bundles))
        await side.store.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), 1, 300), event)
        async with asyncio.timeout(20):
            assert (await waiting)[TD].sequence == 1
            await side.store.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), 2, 300), event)
            assert (await anext(bundles))[TD].sequence == 2


@pytest.mark.postgres
async def test_a_node_at_one_server_hears_what_was_registered_at_another(postgres_server: str) -> None:
    url = await postgres.new_database(postgres_server)
    async with serving(url, "one") as one, serving(url, "two") as two, two.upstream.entries() as updates:
        assert (await next_of(updates)).whole
        await one.registry.create([entry("a")], "uid:0")
        assert (await next_of(updates)).changed[0].id == "a"


@pytest.mark.postgres
async def test_no_change_is_passed_over_when_many_servers_write_at_once(postgres_server: str) -> None:
    url = await postgres.new_database(postgres_server)
    names = [f"n{n}" for n in range(40)]
    async with serving(url, "one") as one, serving(url, "two") as two, one.upstream.entries() as updates:
        seen = asyncio.create_task(following(updates, set(names)))
        work = [(one if n % 2 else two).registry.create([entry(name)], "uid:0") for n, name in enumerate(names)]
        await asyncio.gather(*work)
        await seen


@pytest.mark.postgres
async def test_what_was_registered_while_nobody_listened_is_made_up(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citadel.store.changes._RECONNECT_SECONDS", 0.5)
    url = await postgres.new_database(postgres_server)
    async with serving(url, "one") as one, serving(url, "two") as two, two.upstream.entries() as updates:
        assert (await next_of(updates)).whole
        connection = await asyncpg.connect(url)
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        await connection.close()
        assert len(ended) == 2
        await one.registry.create([entry("a")], "uid:0")
        assert (await next_of(updates)).changed[0].id == "a"


async def test_a_lost_announcement_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SAFETY_NET", timedelta(milliseconds=50))
    store = MemoryEntryStore()  # announces nothing at all
    served = Directory(store, LocalChanges(), SystemClock())
    task = asyncio.create_task(served.run())
    reader = served.node(NODE).reader()
    assert (await served.next(reader)).whole
    await Registry(store, TD, SystemClock(), POLICY).create([entry("a")], "uid:0")
    async with asyncio.timeout(20):
        assert [e.id for e in (await served.next(reader)).changed] == ["a"]
    await _ended(task)


async def test_health_tells_when_the_entries_are_not_read_any_more() -> None:
    clock = ManualClock()
    served = Directory(MemoryEntryStore(), LocalChanges(), clock)
    with pytest.raises(Unavailable, match="not been read yet"):
        await served.health()
    await served.refresh()
    await served.health()
    clock.advance(timedelta(minutes=1))
    with pytest.raises(Unavailable, match="60 s ago"):
        await served.health()
    await served.refresh()
    await served.health()


class Failing(MemoryEntryStore):
    """A store that does not answer, a few times."""

    failures = 2

    async def news(self, since: int | None) -> EntryNews:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the database does not answer")
        return await super().news(since)


async def test_while_the_store_is_away_a_watch_stays_and_goes_on_by_itself() -> None:
    store = Failing()
    changes = LocalChanges()
    served = Directory(store, changes, SystemClock())
    task = asyncio.create_task(served.run())
    reader = served.node(NODE).reader()
    async with asyncio.timeout(20):
        assert (await served.next(reader)).whole
        store.failures = 2
        await Registry(store, TD, SystemClock(), POLICY).create([entry("a")], "uid:0")
        changes.announce(Topic.ENTRIES)
        assert [e.id for e in (await served.next(reader)).changed] == ["a"]
    await _ended(task)
