"""What the store as a whole promises, on both databases; its parts have suites of their own."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import asyncpg
import pytest

from citadel.ca.model import TrustBundle
from citadel.changes import Topic
from citadel.errors import Aborted, CitadelError, FailedPrecondition, InvalidInput
from citadel.registry.ports import Edit
from citadel.spiffe import TrustDomain
from citadel.store import Store, sole
from tests.support.issuance import Chain, make_chain
from tests.support.postgres import new_database
from tests.support.registry import entry
from tests.support.store import chain_is_whole, event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TD = TrustDomain("example.org")


@pytest.fixture
async def chain() -> Chain:
    return await make_chain()


async def test_another_trust_domains_database_is_refused(store: Store) -> None:
    await store.pin_trust_domain(TD)
    await store.pin_trust_domain(TD)
    with pytest.raises(FailedPrecondition, match="belongs to the trust domain"):
        await store.pin_trust_domain(TrustDomain("other.org"))


@pytest.mark.postgres
async def test_one_server_hears_what_another_one_changed(postgres_url: str, url: str) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(CitadelError, match="another Citadel"):
            async with Store.open(url, writer="one"), Store.open(url, writer="two"):
                pass
        return
    async with (
        Store.open(url, writer="one") as one,
        Store.open(url, writer="two") as two,
        two.changes.subscribe([Topic.BUNDLES]) as news,
    ):
        await asyncio.wait_for(anext(news), 10)  # announced once when the listener is connected
        await one.authorities.put_bundle(TrustBundle(TD, (b"\x30\x00",), 1, 300), event())
        assert await asyncio.wait_for(anext(news), 10) is Topic.BUNDLES


@pytest.mark.postgres
async def test_a_second_server_of_the_same_name_is_refused_until_the_first_has_ended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole, "_ATTEMPTS", 1)
    url = await new_database(postgres_url)
    async with Store.open(url, writer="one") as one, Store.open(url, writer="two") as two:
        async with one.alone(), two.alone(), Store.open(url, writer="one") as again:
            with pytest.raises(FailedPrecondition, match=r"another server runs as audit.writer = 'one'"):
                async with again.alone():
                    pass
        monkeypatch.setattr(sole, "_ATTEMPTS", 20)  # the database may take a moment to notice that it ended
        async with one.alone():
            pass


@pytest.mark.postgres
async def test_a_server_that_lost_its_connection_takes_its_name_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await new_database(postgres_url)
    locks = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 3095 AND granted"
    async with Store.open(url, writer="one") as store, store.alone():
        connection = await asyncpg.connect(url)
        try:
            old = await connection.fetchval(locks)
            await connection.execute("SELECT pg_terminate_backend($1)", old)
            async with asyncio.timeout(20):
                while await connection.fetchval(locks) in (old, None):
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()


async def test_a_bundle_grows_by_one_and_is_never_empty(store: Store, chain: Chain) -> None:
    crl = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    first = TrustBundle(TD, (chain.root,), 1, 300)
    second = TrustBundle(TD, (chain.root, chain.issuing), 2, 60, crls=(crl, crl), tainted=frozenset({"ab", "cd"}))
    for bundle in (first, second):
        await store.authorities.put_bundle(bundle, event())
        assert await store.authorities.bundle(TD) == bundle
    for wrong, error in ((second, Aborted), (first, Aborted), (TrustBundle(TD, (), 3, 300), InvalidInput)):
        with pytest.raises(error):
            await store.authorities.put_bundle(wrong, event())
    other = TrustBundle(TrustDomain("other.org"), (chain.root,), 1, 300)
    await store.authorities.put_bundle(other, event())
    assert await store.authorities.bundles() == [second, other]
    assert await store.authorities.bundle(TrustDomain("third.org")) is None


async def test_changes_are_announced_once_they_are_durable(store: Store, chain: Chain) -> None:
    async with store.changes.subscribe([Topic.AUTHORITIES, Topic.BUNDLES]) as news:
        async with asyncio.timeout(10):  # (a listener that was just connected announces everything once)
            await store.authorities.put_bundle(TrustBundle(TD, (chain.root,), 1, 300), event())
            while await anext(news) is not Topic.BUNDLES:
                pass
            assert await store.authorities.bundle(TD) is not None
            await store.authorities.add(chain.authority(), None, event())
            while await anext(news) is not Topic.AUTHORITIES:
                pass


async def test_a_writer_or_reader_that_is_cancelled_at_any_moment_holds_up_nobody(store: Store) -> None:
    """A command that is ended by Ctrl-C cancels its call: the others must go on, and the chain stay whole."""
    clock = random.Random(7)
    for number in range(60):
        work = store.issuance.get(1) if number % 3 == 0 else store.pin_trust_domain(TD)
        task = asyncio.ensure_future(work)
        await asyncio.sleep(clock.random() * 0.004)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(5):
            await store.entries.edit(Edit(create=[(entry(f"e{number}"), event())]), NOW)
    assert await chain_is_whole(store, "one") == 60
