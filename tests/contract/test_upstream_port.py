"""What every workload.upstream.Upstream promises, whatever is behind it.

What LocalUpstream promises beyond that, over the real store and several servers, is in test_upstream.py.

A further implementation (the network client) needs a `Server` here and a line in `SERVERS`; no test knows which it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.api.local import LocalUpstream
from citadel.audit import AuditEvent
from citadel.ca import keys
from citadel.ca.issuer import IssuancePolicy, Issuer
from citadel.ca.model import TrustBundle
from citadel.clock import SystemClock
from citadel.errors import InvalidInput, NotFound, PermissionDenied
from citadel.registry import Directory, Registry, RegistryPolicy
from citadel.store import Store
from citadel.workload.keys import WorkloadKeys, request_for
from citadel.workload.upstream import AckKind, AckReport, AssignedEntry, EntryUpdate, SignedSvid, SvidRequest, Upstream
from tests.support.issuance import CurrentAuthority, make_chain, make_csr
from tests.support.registry import NODE, TD, entry
from tests.support.upstream import MemoryUpstream, assigned

SDS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Server(Protocol):
    """The server's side, as an operator would work on it."""

    upstream: Upstream

    async def create(self, name: str, *, hint: str = "") -> None:
        """An entry of `/name` with that id, served by this node, for certificates of an hour."""

    async def change(self, name: str, *, hint: str) -> None: ...

    async def delete(self, name: str) -> None: ...

    async def put_bundle(self, sequence: int) -> None: ...

    async def reported(self) -> set[tuple[str, str, str]]:
        """Client, resource and version of what is on record as acknowledged."""

    async def recorded(self, serial: int) -> bool:
        """Whether a certificate is on record."""


class Local:
    """LocalUpstream over SQLite."""

    def __init__(self, registry: Registry, upstream: LocalUpstream, store: Store) -> None:
        self.upstream: Upstream = upstream
        self._registry, self._store = registry, store

    async def create(self, name: str, *, hint: str = "") -> None:
        await self._registry.create([entry(name, hint=hint, x509_ttl=timedelta(hours=1))], "uid:0")

    async def change(self, name: str, *, hint: str) -> None:
        await self._registry.update([replace(await self._registry.get(name), hint=hint)], "uid:0")

    async def delete(self, name: str) -> None:
        await self._registry.delete([name], "uid:0")

    async def put_bundle(self, sequence: int) -> None:
        event = AuditEvent(datetime.now(UTC), "uid:0", "bundle.put", TD.name)
        await self._store.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), sequence, 300), event)

    async def reported(self) -> set[tuple[str, str, str]]:
        return {(held.client, held.resource, held.acked_version) for held in await self._store.clients.all()}

    async def recorded(self, serial: int) -> bool:
        try:
            return (await self._store.issuance.get(serial)).intent.serial == serial
        except NotFound:
            return False


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Server]:
    now = SystemClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(f"sqlite:///{folder}/db/citadel.db", writer="one"))
        registry = Registry(store.entries, TD, now, RegistryPolicy(timedelta(seconds=1), timedelta(days=1)))
        directory = Directory(store.entries, store.changes, now)
        following = asyncio.create_task(directory.run())
        stack.push_async_callback(_ended, following)
        chain = await make_chain(now=datetime.now(UTC))
        issuer = Issuer(CurrentAuthority(chain.signing_authority()), store.issuance, now, IssuancePolicy())
        upstream = LocalUpstream(NODE, directory, now, store.authorities, issuer, store.clients, store.changes)
        yield Local(registry, upstream, store)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


class Memory:
    """The one that the tests of the node's side stand on."""

    def __init__(self, upstream: MemoryUpstream) -> None:
        self.upstream: Upstream = upstream
        self._memory = upstream
        self._entries: dict[str, AssignedEntry] = {}

    async def create(self, name: str, *, hint: str = "") -> None:
        self._entries[name] = assigned(name, hint=hint)
        await self._memory.put(self._entries[name])

    async def change(self, name: str, *, hint: str) -> None:
        old = self._entries[name]
        self._entries[name] = replace(old, hint=hint, revision=old.revision + 1)
        await self._memory.put(self._entries[name])

    async def delete(self, name: str) -> None:
        await self._memory.delete(name)

    async def put_bundle(self, sequence: int) -> None:
        await self._memory.put_bundle((b"\x30\x00",), sequence)

    async def reported(self) -> set[tuple[str, str, str]]:
        return {(one.client, one.resource, one.version) for one in self._memory.reported}

    async def recorded(self, serial: int) -> bool:
        return serial in self._memory.records.rows


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Server]:
    yield Memory(await MemoryUpstream.make(SystemClock()))


SERVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Server]]] = {"local": local, "memory": memory}


@pytest.fixture(params=list(SERVERS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with asyncio.timeout(60), SERVERS[request.param](tmp_path) as one:
        yield one


class Watch:
    """Somebody who takes every update."""

    def __init__(self, updates: AsyncIterator[EntryUpdate]) -> None:
        self._updates = updates
        self.known: dict[str, AssignedEntry] = {}
        self.taken = 0

    async def next(self) -> EntryUpdate:
        async with asyncio.timeout(20):
            update = await anext(self._updates)
        self.taken += 1
        if update.whole:
            self.known = {}
        self.known |= {one.id: one for one in update.changed}
        for entry_id in update.gone:
            self.known.pop(entry_id, None)
        return update

    async def until(self, true: Callable[[dict[str, AssignedEntry]], bool]) -> None:
        while not true(self.known):
            await self.next()


async def granted(server: Server, *names: str) -> None:
    """Register these, and wait until the node may serve them."""
    for name in names:
        await server.create(name)
    async with server.upstream.entries() as updates:
        await Watch(updates).until(lambda known: known.keys() >= set(names))


async def test_a_watch_begins_with_all_there_is_even_if_that_is_nothing(server: Server) -> None:
    async with server.upstream.entries() as updates:
        assert await Watch(updates).next() == EntryUpdate((), whole=True)
    await granted(server, "a", "b")
    async with server.upstream.entries() as updates:
        first = await Watch(updates).next()
    assert first.whole
    assert {one.id for one in first.changed} == {"a", "b"}


async def test_then_it_tells_what_is_new_changed_or_gone(server: Server) -> None:
    async with server.upstream.entries() as updates:
        watch = Watch(updates)
        await watch.next()
        await server.create("a")
        await watch.until(lambda known: "a" in known)
        await server.change("a", hint="internal")
        await watch.until(lambda known: known["a"].hint == "internal")
        assert watch.known["a"].revision == 1
        await server.delete("a")
        await watch.until(lambda known: not known)


async def test_an_entry_arrives_as_it_was_made(server: Server) -> None:
    await granted(server, "web")
    async with server.upstream.entries() as updates:
        watch = Watch(updates)
        await watch.next()
    web = watch.known["web"]
    assert (web.spiffe_id.uri, web.x509_ttl) == ("spiffe://example.org/web", timedelta(hours=1))
    assert {str(selector) for selector in web.selectors} == {"unix:uid:1000"}
    assert web.created_at.tzinfo is not None


async def test_every_watch_hears_every_change(server: Server) -> None:
    async with AsyncExitStack() as stack:
        watches = [Watch(await stack.enter_async_context(server.upstream.entries())) for _ in range(5)]
        await server.create("a")
        await asyncio.gather(*(watch.until(lambda known: "a" in known) for watch in watches))


async def test_who_reads_slowly_finds_the_newest_and_not_every_step(server: Server) -> None:
    async with server.upstream.entries() as updates:
        watch = Watch(updates)
        await watch.next()
        await server.create("a")
        for number in range(30):
            await server.change("a", hint=f"h{number}")
        await watch.until(lambda known: "a" in known and known["a"].hint == "h29")
        assert watch.taken < 10


async def test_a_bundle_comes_once_there_is_one_and_again_when_it_changes(server: Server) -> None:
    async with server.upstream.bundles() as bundles:
        waiting = asyncio.ensure_future(anext(bundles))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await server.put_bundle(1)
        async with asyncio.timeout(20):
            first = (await waiting)[server.upstream.trust_domain]
            assert (first.sequence, len(first.roots)) == (1, 1)
            await server.put_bundle(2)
            assert (await anext(bundles))[server.upstream.trust_domain].sequence == 2
    async with server.upstream.bundles() as later, asyncio.timeout(20):
        assert (await anext(later))[server.upstream.trust_domain].sequence == 2


async def test_each_request_has_its_own_answer_in_order_and_a_wrong_one_spoils_no_other(server: Server) -> None:
    await granted(server, "a", "b")
    requests = [
        SvidRequest("a", make_csr(uris=["spiffe://example.org/a"])),
        SvidRequest("a", b"garbage"),
        SvidRequest("nobody", make_csr(uris=["spiffe://example.org/a"])),
        SvidRequest("b", make_csr(uris=["spiffe://example.org/a"])),
        SvidRequest("b", make_csr(uris=["spiffe://example.org/b"])),
    ]
    first, garbage, nobody, other, last = await server.upstream.sign(requests)
    assert isinstance(first, SignedSvid)
    assert isinstance(last, SignedSvid)
    assert (first.spiffe_id.path, last.spiffe_id.path) == ("/a", "/b")
    assert isinstance(garbage, InvalidInput)
    assert isinstance(nobody, PermissionDenied)
    assert isinstance(other, InvalidInput)


async def test_nothing_asked_is_nothing_answered(server: Server) -> None:
    assert await server.upstream.sign([]) == []


async def test_what_is_said_of_a_certificate_is_what_is_in_it_and_it_is_on_record(server: Server) -> None:
    await granted(server, "web")
    key = keys.generate()
    [svid] = await server.upstream.sign([SvidRequest("web", make_csr(key, uris=["spiffe://example.org/web"]))])
    assert isinstance(svid, SignedSvid)
    leaf = x509.load_der_x509_certificate(svid.chain[0])
    assert leaf.public_key() == key.public_key()
    assert (leaf.serial_number, leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (
        svid.serial,
        svid.not_before,
        svid.not_after,
    )
    issuers = [x509.load_der_x509_certificate(der) for der in svid.chain]
    for below, above in pairwise(issuers):
        below.verify_directly_issued_by(above)
    assert all(one.subject != one.issuer for one in issuers), "the root is not in the chain"
    identifier = issuers[0].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier is not None
    assert identifier.hex() == svid.authority
    assert await server.recorded(svid.serial)


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"])
async def test_every_kind_of_key_that_a_node_makes_is_taken(server: Server, kind: str) -> None:
    await granted(server, "web")
    async with server.upstream.entries() as updates:
        watch = Watch(updates)
        await watch.next()
    key = await WorkloadKeys(kind).make()
    [svid] = await server.upstream.sign([SvidRequest("web", request_for(key, watch.known["web"].spiffe_id))])
    assert isinstance(svid, SignedSvid)
    certified = x509.load_der_x509_certificate(svid.chain[0]).public_key()
    assert isinstance(certified, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    assert certified == key.public_key()


async def test_after_an_entry_is_deleted_nothing_is_signed_for_it(server: Server) -> None:
    await granted(server, "a")
    async with server.upstream.entries() as updates:
        watch = Watch(updates)
        await watch.next()
        await server.delete("a")
        await watch.until(lambda known: not known)
    [answer] = await server.upstream.sign([SvidRequest("a", make_csr(uris=["spiffe://example.org/a"]))])
    assert isinstance(answer, PermissionDenied)


async def test_many_at_once_get_serials_of_their_own(server: Server) -> None:
    await granted(server, "a")
    request = SvidRequest("a", make_csr(uris=["spiffe://example.org/a"]))
    answers = await asyncio.gather(*(server.upstream.sign([request] * 8) for _ in range(8)))
    serials = [one.serial for some in answers for one in some if isinstance(one, SignedSvid)]
    assert len(set(serials)) == 64


async def test_what_clients_acknowledged_is_on_record_when_the_call_returns(server: Server) -> None:
    report = AckReport(datetime.now(UTC), "envoy@uid:0", "1", AckKind.ACK, "default", SDS, "v1")
    await server.upstream.report([report, replace(report, resource="ROOTCA")])
    assert await server.reported() == {("envoy@uid:0", "default", "v1"), ("envoy@uid:0", "ROOTCA", "v1")}
