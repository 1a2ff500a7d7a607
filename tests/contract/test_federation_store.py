"""What ca.ports.FederationStore promises, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from citadel.audit import AuditEvent
from citadel.ca.model import TrustBundle
from citadel.changes import Topic
from citadel.errors import AlreadyExists, FailedPrecondition, NotFound
from citadel.registry.ports import Edit
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support import postgres
from tests.support.registry import entry

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OTHER = TrustDomain("other.org")
ONE, TWO = b"\x30\x01\x01", b"\x30\x01\x02"


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path}/db/citadel.db"
    if request.param == "postgresql":
        url = await postgres.new_database(request.getfixturevalue("postgres_server"))
    async with Store.open(url, writer="a") as opened:
        yield opened


def event(action: str = "bundle.set") -> AuditEvent:
    return AuditEvent(NOW, "uid:0", action, OTHER.name)


def bundle(*roots: bytes, sequence: int = 0) -> TrustBundle:
    return TrustBundle(OTHER, roots, sequence, 60)


async def test_the_sequence_is_the_one_given_and_grows_with_each_change(store: Store) -> None:
    put = store.federation.put_federated
    assert (await put(bundle(ONE), event(), present=None)).sequence == 1
    assert (await put(bundle(TWO, sequence=7), event(), present=None)).sequence == 7
    assert (await put(bundle(ONE, sequence=7), event(), present=None)).sequence == 8
    stored = await store.authorities.bundle(OTHER)
    assert stored == bundle(ONE, sequence=8)


async def test_the_same_content_changes_nothing_and_is_not_recorded(store: Store) -> None:
    put = store.federation.put_federated
    first = await put(bundle(ONE, sequence=5), event(), present=None)
    async with store.changes.subscribe([Topic.BUNDLES]) as news:
        assert await put(bundle(ONE, sequence=3), event(), present=None) == first
        assert len(await store.audit.read("a", 0, 10)) == 1
        assert (await put(bundle(ONE, sequence=9), event(), present=None)).sequence == 9
        assert await asyncio.wait_for(anext(news), 10) is Topic.BUNDLES


async def test_creation_and_update_mind_what_is_there(store: Store) -> None:
    put = store.federation.put_federated
    with pytest.raises(NotFound, match=r"other\.org"):
        await put(bundle(ONE), event(), present=True)
    await put(bundle(ONE), event(), present=False)
    with pytest.raises(AlreadyExists, match=r"other\.org"):
        await put(bundle(TWO), event(), present=False)
    assert (await put(bundle(TWO), event(), present=True)).roots == (TWO,)


async def test_it_is_deleted_only_when_no_entry_federates_with_it(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.federation.delete_federated(OTHER, event())
    await store.federation.put_federated(bundle(ONE), event(), present=None)
    [one] = await store.entries.edit(
        Edit(create=[(replace(entry("a"), federates_with=frozenset({OTHER})), event())]), NOW
    )
    with pytest.raises(FailedPrecondition, match="1 entries federate"):
        await store.federation.delete_federated(OTHER, event())
    assert await store.authorities.bundle(OTHER) is not None
    await store.entries.edit(Edit(update=[(replace(one, federates_with=frozenset()), event())]), NOW)
    await store.federation.delete_federated(OTHER, event("bundle.delete"))
    assert await store.authorities.bundle(OTHER) is None
