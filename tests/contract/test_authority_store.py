"""The contract of ports.AuthorityStore, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from citadel.audit import AuditEvent
from citadel.ca.certificates import read_certificate
from citadel.ca.model import (
    Authority,
    AuthorityKind,
    AuthorityState,
    IssuanceIntent,
    IssuanceOutcome,
    KeySource,
    Outcome,
    SealedKey,
    Skid,
)
from citadel.errors import Aborted, AlreadyExists, NotFound
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store import Store
from tests.support.cacerts import Ca, make_ca

TD = TrustDomain("example.org")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROOT = make_ca("root")
CA = make_ca("ca", make_ca("upper", ROOT))
A = AuthorityState


def event(action: str = "test") -> AuditEvent:
    return AuditEvent(NOW, "uid:0", action, "x")


def authority(ca: Ca, state: AuthorityState = A.ACTIVE, *, at: datetime = NOW) -> Authority:
    certificate = read_certificate(ca.der)
    kind = AuthorityKind.ROOT if ca.issuer is None else AuthorityKind.ISSUING
    skid, root = (Skid(_identifier(one)) for one in (ca, ca.root))
    between = [] if ca.issuer is None or ca.issuer.issuer is None else [ca.issuer.der]
    return Authority(
        skid, kind, state, TD, KeySource.NONE, (certificate,), root, at, at, chain=tuple(between), note="a note"
    )


def _identifier(ca: Ca) -> str:

    return x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key()).digest.hex()


def key_of(one: Authority, kek: str = "local:1", text: bytes = b"sealed") -> SealedKey:
    return SealedKey(one.skid, kek, text)


async def all_of(store: Store) -> dict[Skid, Authority]:
    return {a.skid: a for a in await store.authorities.authorities()}


async def test_what_was_added_comes_back_as_it_was_oldest_first(store: Store) -> None:
    later, earlier = authority(ROOT, at=NOW + timedelta(seconds=1)), authority(CA)
    await store.authorities.add(later, None, event())
    await store.authorities.add(earlier, key_of(earlier), event())
    assert await store.authorities.authorities() == [earlier, later]
    assert await store.authorities.sealed_key(earlier.skid) == key_of(earlier)
    with pytest.raises(NotFound):
        await store.authorities.sealed_key(later.skid)


async def test_a_key_is_added_once_and_of_a_kind_one_is_active(store: Store) -> None:
    one, other = authority(CA), authority(make_ca("other", ROOT))
    await store.authorities.add(one, key_of(one), event())
    with pytest.raises(AlreadyExists):
        await store.authorities.add(replace(one, state=A.PREPARED), None, event())
    with pytest.raises(Aborted, match="there can be only one"):
        await store.authorities.add(other, key_of(other), event())
    assert set(await all_of(store)) == {one.skid}
    with pytest.raises(NotFound):
        await store.authorities.sealed_key(other.skid)
    await store.authorities.add(authority(ROOT), None, event())  # another kind


async def test_the_next_one_retires_the_last_in_the_same_transaction(store: Store) -> None:
    first, second, third = (authority(make_ca(name, ROOT)) for name in ("a", "b", "c"))
    await store.authorities.add(first, None, event())
    await store.authorities.add(second, None, event(), retire=first.skid)
    assert {s: a.state for s, a in (await all_of(store)).items()} == {first.skid: A.RETIRING, second.skid: A.ACTIVE}
    with pytest.raises(Aborted):
        await store.authorities.add(third, None, event(), retire=first.skid)  # it is not active any more
    assert third.skid not in await all_of(store)
    await store.authorities.transition(first.skid, A.RETIRING, A.ACTIVE, event(), retire=second.skid)
    assert (await all_of(store))[second.skid].state is A.RETIRING


async def test_of_many_that_would_be_active_at_once_one_is(store: Store) -> None:
    wanted = [authority(make_ca(f"ca {number}", ROOT)) for number in range(8)]
    results = await asyncio.gather(
        *(store.authorities.add(one, None, event()) for one in wanted), return_exceptions=True
    )
    assert sorted(type(r).__name__ for r in results) == ["Aborted"] * 7 + ["NoneType"]


async def test_a_transition_names_the_state_that_it_starts_from(store: Store) -> None:
    one = authority(CA, A.PREPARED)
    await store.authorities.add(one, None, event())
    for expected in (A.ACTIVE, A.RETIRING):
        with pytest.raises(Aborted, match="is prepared, not"):
            await store.authorities.transition(one.skid, expected, A.REMOVED, event())
    with pytest.raises(NotFound):
        await store.authorities.transition(Skid("00"), A.PREPARED, A.ACTIVE, event())
    later = AuditEvent(NOW + timedelta(hours=1), "uid:0", "test", "x")
    await store.authorities.transition(one.skid, A.PREPARED, A.ACTIVE, later, note="since")
    found = (await all_of(store))[one.skid]
    assert (found.state, found.note, found.changed_at) == (A.ACTIVE, "since", later.at)


async def test_a_further_certificate_is_the_newest_and_brings_its_chain_and_root(store: Store) -> None:
    one = authority(CA)
    await store.authorities.add(one, None, event())
    again = read_certificate(make_ca("ca", make_ca("another root"), key=CA.key).der)
    await store.authorities.add_certificate(one.skid, again, (), event(), root=Skid("bb"))
    found = (await all_of(store))[one.skid]
    assert found.certificates == (again, *one.certificates)
    assert (found.chain, found.root_skid) == ((), Skid("bb"))
    with pytest.raises(AlreadyExists):
        await store.authorities.add_certificate(one.skid, again, (), event())
    with pytest.raises(NotFound):
        await store.authorities.add_certificate(Skid("00"), again, (), event())


async def test_a_key_is_sealed_anew_or_given_to_one_that_had_none(store: Store) -> None:
    root = authority(ROOT)
    await store.authorities.add(root, None, event())
    with pytest.raises(NotFound):
        await store.authorities.replace_sealed_key(key_of(root), event())
    await store.authorities.give_key(key_of(root), KeySource.FILES, event())
    assert await store.authorities.sealed_key(root.skid) == key_of(root)
    assert (await all_of(store))[root.skid] == replace(root, key_source=KeySource.FILES)
    for text, write in ((b"two", store.authorities.replace_sealed_key), (b"three", None)):
        key = key_of(root, "local:2", text)
        await (write(key, event()) if write else store.authorities.give_key(key, KeySource.SEALED, event()))
        assert await store.authorities.sealed_key(root.skid) == key
    assert (await all_of(store))[root.skid].key_source is KeySource.SEALED
    with pytest.raises(NotFound):
        await store.authorities.give_key(SealedKey(Skid("00"), "k", b""), KeySource.FILES, event())


async def test_each_change_is_in_the_audit_log_and_what_was_refused_is_not(store: Store) -> None:
    one = authority(CA)
    await store.authorities.add(one, None, event("first"))
    with pytest.raises(AlreadyExists):
        await store.authorities.add(one, None, event("refused"))
    await store.authorities.give_key(key_of(one), KeySource.FILES, event("second"))
    bodies = [line.body for line in await store.audit.read("one", 0, 100)]
    assert [name for name in (b"first", b"refused", b"second") if any(name in _bytes(body) for body in bodies)] == [
        b"first",
        b"second",
    ]


def _bytes(body: bytes | str) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


async def test_leaves_are_counted_while_they_live_and_were_not_known_to_fail(store: Store) -> None:
    for serial, (hours, outcome) in enumerate(
        ((1, Outcome.ISSUED), (1, None), (1, Outcome.UNKNOWN), (1, Outcome.FAILED), (-1, Outcome.ISSUED)), 1
    ):
        end = NOW + timedelta(hours=hours)
        web = SpiffeId.parse("spiffe://example.org/web")
        intent = IssuanceIntent(serial, web, "e", Skid("aa"), NOW - timedelta(hours=2), end, (), "ff", "uid:0", NOW)
        await store.issuance.intend(intent, event())
        if outcome:
            await store.issuance.settle(IssuanceOutcome(serial, outcome))
    last = IssuanceIntent(99, web, "e", Skid("bb"), NOW, end, (), "ff", "uid:0", NOW)
    await store.issuance.intend(last, event())  # outcomes are written with it, or before
    assert await store.authorities.live_leaves(NOW) == {Skid("aa"): 3}


async def test_an_issuing_ca_is_forgotten_when_it_is_removed_for_long_and_no_issuance_of_it_is_on_record(
    store: Store,
) -> None:
    root, gone, used, young = (authority(ca, A.REMOVED) for ca in (ROOT, CA, make_ca("u", ROOT), make_ca("y", ROOT)))
    young = replace(young, created_at=NOW + timedelta(days=2), changed_at=NOW + timedelta(days=2))
    present = replace(authority(make_ca("p", ROOT)), state=A.RETIRING)
    for one in (root, gone, used, young, present):
        await store.authorities.add(one, key_of(one), event())
    issued = SpiffeId.parse("spiffe://example.org/a")
    intent = IssuanceIntent(1, issued, "e", used.skid, NOW, NOW + timedelta(hours=1), (), "k", "r", NOW)
    await store.issuance.intend(intent, event())
    assert await store.authorities.needed_no_more(NOW + timedelta(days=1)) == [gone.skid]
    later = replace(event("ca.forget"), at=NOW + timedelta(days=1))
    await store.authorities.forget(gone.skid, later)
    for kept in (gone, used, young, present, root):
        with pytest.raises(NotFound):
            await store.authorities.forget(kept.skid, later)
    assert set(await all_of(store)) == {root.skid, used.skid, young.skid, present.skid}
    with pytest.raises(NotFound):
        await store.authorities.sealed_key(gone.skid)
