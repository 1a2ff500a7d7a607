"""The authorities' life on a real store: first start, crash at any step, renewal, plugged-in files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel.audit import AuditEvent
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.roots import CacertsRoot, DiskRoot
from citadel.errors import BadFile, Unavailable
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.cacerts import DAY, Ca, Mint, make_ca, make_crl, plug

TD = TrustDomain("example.org")


@dataclass
class Hands:
    """A clock that a test sets."""

    time: datetime

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as opened:
        yield opened


@pytest.fixture
def clock() -> Hands:
    return Hands(datetime.now(UTC))


@pytest.fixture
def kek() -> LocalKek:
    return LocalKek(os.urandom(32))


def authorities(store: Any, kek: LocalKek, clock: Hands, *, plugged: Path | None = None) -> Authorities:
    """As the server wires them; `store` is anything that has an AuthorityStore's calls."""
    ring = Keyring(store, kek)
    week = timedelta(days=7)
    root = DiskRoot(store, ring, clock, TD, ttl=timedelta(days=3650), issuing_ttl=week)
    files = CacertsRoot(plugged, TD, clock) if plugged else None
    return Authorities(store, ring, root, clock, TD, AuthorityPolicy(week, timedelta(days=1)), plugged=files)


async def test_the_first_start_makes_a_root_that_is_in_the_bundle_and_an_issuing_ca(
    store: Store, kek: LocalKek, clock: Hands
) -> None:
    one = authorities(store.authorities, kek, clock)
    await one.ensure()
    current = one.current().authority
    bundle = await one.bundle()
    states = {a.skid: (a.kind, a.state) for a in await one.all()}
    assert states[current.skid] == (AuthorityKind.ISSUING, AuthorityState.ACTIVE)
    assert states[current.root_skid] == (AuthorityKind.ROOT, AuthorityState.ACTIVE)
    assert [a.certificate.der for a in await one.all() if a.kind is AuthorityKind.ROOT] == list(bundle.roots)


async def test_a_second_start_changes_nothing(store: Store, kek: LocalKek, clock: Hands) -> None:
    first, second = (authorities(store.authorities, kek, clock) for _ in range(2))
    await first.ensure()
    before = await first.all()
    await second.ensure()
    assert await second.all() == before
    assert second.current().authority == first.current().authority
    assert (await second.bundle()).sequence == 1


class Dies(Exception):
    """Stands for kill -9."""


class Dying:
    """A store that dies before, or after, its n-th writing call."""

    def __init__(self, inner: Any, at: int, *, after: bool) -> None:
        self._inner, self._left, self._after = inner, at, after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in ("add", "add_certificate", "transition", "put_bundle", "give_key"):
            return call

        async def counted(*given: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Dies
            result = await call(*given, **named)
            if self._left == 0:
                raise Dies
            return result

        return counted


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
async def test_a_crash_at_any_step_is_carried_on_from(
    store: Store, kek: LocalKek, clock: Hands, step: int, after: bool
) -> None:
    with pytest.raises(Dies):
        await authorities(Dying(store.authorities, step, after=after), kek, clock).ensure()
    again = authorities(store.authorities, kek, clock)
    await again.ensure()
    kinds = [(a.kind, a.state) for a in await again.all()]
    assert sorted(kinds) == [
        (AuthorityKind.ISSUING, AuthorityState.ACTIVE),
        (AuthorityKind.ROOT, AuthorityState.ACTIVE),
    ]
    assert len((await again.bundle()).roots) == 1


async def test_the_issuing_ca_is_renewed_at_half_of_its_life_with_a_new_key(
    store: Store, kek: LocalKek, clock: Hands
) -> None:
    one = authorities(store.authorities, kek, clock)
    await one.ensure()
    old = one.current().authority
    assert not await one.renew_if_due()
    clock.time += timedelta(days=4)
    assert await one.renew_if_due()
    new = one.current().authority
    assert new.skid != old.skid
    assert {a.skid: a.state for a in await one.all()}[old.skid] is AuthorityState.RETIRING
    clock.time += timedelta(days=4)
    await one.renew_if_due()
    assert {a.skid: a.state for a in await one.all()}[old.skid] is AuthorityState.REMOVED


async def test_an_expired_issuing_ca_signs_nothing_and_says_so(store: Store, kek: LocalKek, clock: Hands) -> None:
    one = authorities(store.authorities, kek, clock)
    await one.ensure()
    clock.time += timedelta(days=8)
    with pytest.raises(Unavailable, match="expired"):
        one.current()


async def test_plugged_in_files_sign_and_a_root_that_is_not_distributed_waits(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    folder = tmp_path / "cacerts"
    first, other = Mint(TD), Mint(TD)
    first.write(folder)
    one = authorities(store.authorities, kek, clock, plugged=folder)
    await one.ensure()
    old = one.current().authority
    assert (await one.bundle()).roots == (first.root_der,)
    other.write(folder)
    await one.reload_plugged()
    assert one.current().authority == old
    assert "not been distributed" in one.plugged_fault
    restarted = authorities(store.authorities, kek, clock, plugged=folder)
    await restarted.ensure()
    assert restarted.current().authority == old, "its key outlasts the change of the files"
    first.renew()
    first.write(folder)
    await restarted.reload_plugged()
    assert restarted.current().authority.skid != old.skid
    assert restarted.plugged_fault == ""


def plugged(store: Any, kek: LocalKek, clock: Hands, folder: Path, ca: Ca) -> Authorities:
    plug(folder, ca)
    return authorities(store, kek, clock, plugged=folder)


async def states(one: Authorities) -> dict[Skid, tuple[AuthorityKind, AuthorityState, KeySource]]:
    return {a.skid: (a.kind, a.state, a.key_source) for a in await one.all()}


async def test_a_root_that_signs_leaves_itself_is_one_authority_with_a_sealed_key(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    root = make_ca("root", path_length=0)
    one = plugged(store.authorities, kek, clock, tmp_path / "c", root)
    await one.ensure()
    current = one.current().authority
    assert (current.skid, current.root_skid, current.certificate.der) == (current.skid, current.skid, root.der)
    assert await states(one) == {current.skid: (AuthorityKind.ROOT, AuthorityState.ACTIVE, KeySource.FILES)}
    assert (await one.bundle()).roots == (root.der,)
    assert not await one.renew_if_due()
    plug(tmp_path / "c", root, ca_key=b"", ca_cert=b"")
    again = authorities(store.authorities, kek, clock, plugged=tmp_path / "c")
    await again.ensure()
    assert again.current().authority == current, "its sealed key outlasts the files"
    assert "ca-key.pem" in again.plugged_fault


async def test_a_root_hands_over_to_a_ca_under_it_and_takes_over_again(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    root = make_ca("root")
    under = make_ca("ca", root)
    one = plugged(store.authorities, kek, clock, tmp_path / "c", root)
    await one.ensure()
    itself = one.current().authority.skid
    for ca, kinds in ((under, 2), (root, 2), (under, 2)):
        plug(tmp_path / "c", ca)
        await one.reload_plugged()
        assert one.plugged_fault == ""
        assert one.current().authority.certificate.der == ca.der
        assert len(await states(one)) == kinds
        restarted = authorities(store.authorities, kek, clock, plugged=tmp_path / "c")
        await restarted.ensure()
        assert restarted.current().authority.certificate.der == ca.der
    assert (await states(one))[itself][:2] == (AuthorityKind.ROOT, AuthorityState.ACTIVE)
    assert (await one.bundle()).roots == (root.der,)


@pytest.mark.parametrize("begins_with", ["disk", "root itself", "ca"])
async def test_another_root_that_signs_itself_waits_also_across_a_restart(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path, begins_with: str
) -> None:
    folder = tmp_path / "c"
    if begins_with == "disk":
        one = authorities(store.authorities, kek, clock)
    else:
        root = make_ca("old root")
        one = plugged(
            store.authorities, kek, clock, folder, root if begins_with == "root itself" else make_ca("ca", root)
        )
    await one.ensure()
    old, bundle = one.current().authority, await one.bundle()
    new = make_ca("new root")
    two = plugged(store.authorities, kek, clock, folder, new)
    await two.ensure()
    await two.reload_plugged()
    assert two.current().authority == old
    assert await two.bundle() == bundle
    assert any("not been distributed" in sentence for sentence in two.waiting())
    waits = [a for a in await two.all() if a.certificate.der == new.der]
    assert [(a.kind, a.state, a.key_source) for a in waits] == [
        (AuthorityKind.ROOT, AuthorityState.PREPARED, KeySource.FILES)  # its key is durable, should a rotation take it
    ]


@pytest.mark.parametrize("itself", [False, True])
async def test_a_waiting_root_and_its_ca_lie_ready_and_come_into_force_by_a_rotation_alone(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path, itself: bool
) -> None:
    old, new_root = make_ca("old root"), make_ca("new root")
    first, new = make_ca("first", old), new_root if itself else make_ca("new", new_root)
    one = plugged(store.authorities, kek, clock, tmp_path / "c", first)
    await one.ensure()
    before = one.current().authority
    plug(tmp_path / "c", new)
    await one.reload_plugged()
    of = {a.certificate.der: a.skid for a in await one.all()}

    async def move(ca: Ca, expected: AuthorityState, to: AuthorityState, retire: Ca | None = None) -> None:
        """What a rotation does."""
        event = AuditEvent(clock.now(), "test", "rotation", of[ca.der].hex)
        retired = of[retire.der] if retire else None
        await store.authorities.transition(of[ca.der], expected, to, event, retire=retired)

    ready = {(a.certificate.der, a.state) for a in await one.all() if a.state is AuthorityState.PREPARED}
    assert ready == {(ca.der, AuthorityState.PREPARED) for ca in {new_root, new}}
    for ca in {new_root, new} - ({new_root} - {new}):
        assert (await store.authorities.sealed_key(of[ca.der])).kek_id == kek.id, "its key is durable before it signs"
    await move(new_root, AuthorityState.PREPARED, AuthorityState.DISTRIBUTING)
    await one.renew_if_due()  # publishes what the states call for
    assert len((await one.bundle()).roots) == 2
    await one.reload_plugged()
    assert "is being distributed; the present CA stays in force" in one.plugged_fault
    assert one.current().authority == before, "who has acknowledged it, only the rotation knows"
    await move(new_root, AuthorityState.DISTRIBUTING, AuthorityState.ACTIVE, old)
    if itself:
        await move(first, AuthorityState.ACTIVE, AuthorityState.RETIRING)
    else:
        await move(new, AuthorityState.PREPARED, AuthorityState.ACTIVE, first)
    await one.reload_plugged()
    assert one.plugged_fault == ""
    assert one.current().authority.certificate.der == new.der
    assert len((await one.bundle()).roots) == 2, "leaves of the old one are in use"
    plug(tmp_path / "c", first)
    await one.reload_plugged()
    assert one.current().authority.certificate.der == new.der, "putting the old files back is no rollback by itself"
    assert "is retiring; the present CA stays in force" in one.plugged_fault


async def test_what_waited_and_is_plugged_in_no_more_is_abandoned_and_may_come_again(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    first, other = make_ca("first", make_ca("root")), make_ca("other", make_ca("other root"))
    one = plugged(store.authorities, kek, clock, tmp_path / "c", first)
    await one.ensure()
    for _ in range(2):
        for ca, state in ((other, AuthorityState.PREPARED), (first, AuthorityState.ABANDONED)):
            plug(tmp_path / "c", ca)
            await one.reload_plugged()
            ders = {other.der, other.root.der}
            assert {a.state for a in await one.all() if a.certificate.der in ders} == {state}


async def test_a_root_that_everybody_has_had_from_the_start_comes_into_force_at_once(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    one_root, other_root = make_ca("one root"), make_ca("other root")
    plug(tmp_path / "c", make_ca("one", one_root), roots=[other_root])
    one = authorities(store.authorities, kek, clock, plugged=tmp_path / "c")
    await one.ensure()
    assert len((await one.bundle()).roots) == 2
    plug(tmp_path / "c", other := make_ca("other", other_root), roots=[one_root])
    await one.reload_plugged()
    assert one.plugged_fault == ""
    assert one.current().authority.certificate.der == other.der
    assert len((await one.bundle()).roots) == 2


async def test_a_root_with_a_new_certificate_for_its_key_is_renewed_not_rotated(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    old = make_ca("root", ends=20 * DAY, now=clock.now())
    new = make_ca("root", key=old.key, ends=400 * DAY, now=clock.now())
    one = plugged(store.authorities, kek, clock, tmp_path / "c", make_ca("first", old, ends=19 * DAY))
    await one.ensure()
    skid = next(a.skid for a in await one.all() if a.kind is AuthorityKind.ROOT)
    plug(tmp_path / "c", second := make_ca("second", new), roots=[old])
    await one.reload_plugged()
    assert one.plugged_fault == ""
    assert one.current().authority.certificate.der == second.der
    assert set((await one.bundle()).roots) == {old.der, new.der}
    roots = [a for a in await one.all() if a.kind is AuthorityKind.ROOT]
    assert [(a.skid, a.certificate.der, len(a.certificates)) for a in roots] == [(skid, new.der, 2)]
    clock.time += 21 * DAY
    await one.renew_if_due()
    assert (await one.bundle()).roots == (new.der,), "Envoys may pick the one that expired"
    assert one.current().ends > clock.now() + 200 * DAY


async def test_crls_of_a_root_on_its_way_are_served_before_its_first_leaf(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    first, other = make_ca("first", make_ca("root")), make_ca("other", make_ca("other root"))
    plug(tmp_path / "c", first, crls=[make_crl(first), make_crl(first.root)])
    one = authorities(store.authorities, kek, clock, plugged=tmp_path / "c")
    await one.ensure()
    plug(tmp_path / "c", other)
    await one.reload_plugged()
    skid = next(a.skid for a in await one.all() if a.certificate.der == other.root.der)
    event = AuditEvent(clock.now(), "test", "rotation", skid.hex)
    await store.authorities.transition(skid, AuthorityState.PREPARED, AuthorityState.DISTRIBUTING, event)
    await one.reload_plugged()
    assert "add its ca-crl.pem" in one.plugged_fault
    assert len((await one.bundle()).crls) == 2
    plug(tmp_path / "c", other, crls=[make_crl(other), make_crl(other.root)])
    await one.reload_plugged()
    assert "is being distributed" in one.plugged_fault
    assert len((await one.bundle()).crls) == 4


async def test_a_crl_that_expired_stays_served_and_is_told_of_until_it_is_renewed_or_taken_away(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    ca = make_ca("ca", make_ca("root"))
    plug(tmp_path / "c", ca, crls=[make_crl(ca, ends=9 * DAY), make_crl(ca.root)])
    one = authorities(store.authorities, kek, clock, plugged=tmp_path / "c")
    await one.ensure()
    assert not any("the CRL of" in text for text in one.waiting())
    clock.time += 7 * DAY
    await one.reload_plugged()
    assert sum("from then on Envoys refuse everybody" in text for text in one.waiting()) == 1
    clock.time += 3 * DAY
    await one.reload_plugged()
    assert len((await one.bundle()).crls) == 2, "nobody decided that what was revoked is welcome again"
    assert any("and Envoys refuse everybody: put a new ca-crl.pem there, or take it away" in t for t in one.waiting())
    plug(tmp_path / "c", ca)
    await one.reload_plugged()
    assert (await one.bundle()).crls == ()
    assert not any("the CRL of" in text for text in one.waiting())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 8))
async def test_a_crash_while_a_root_takes_over_from_its_ca_is_carried_on_from(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path, step: int, after: bool
) -> None:
    root = make_ca("root")
    with suppress(Dies):
        await plugged(
            Dying(store.authorities, step, after=after), kek, clock, tmp_path / "c", make_ca("ca", root)
        ).ensure()
    with suppress(Dies):
        await plugged(Dying(store.authorities, step, after=after), kek, clock, tmp_path / "c", root).ensure()
    one = plugged(store.authorities, kek, clock, tmp_path / "c", root)
    await one.ensure()
    assert one.plugged_fault == ""
    assert one.current().authority.certificate.der == root.der
    active = [kind for kind, state, _ in (await states(one)).values() if state is AuthorityState.ACTIVE]
    assert active == [AuthorityKind.ROOT]


async def test_broken_plugged_in_files_leave_the_old_ones_in_force(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    folder = tmp_path / "cacerts"
    mint = Mint(TD)
    mint.write(folder)
    one = authorities(store.authorities, kek, clock, plugged=folder)
    await one.ensure()
    old = one.current().authority
    (folder / "ca-cert.pem").write_text("half a certific")
    await one.reload_plugged()
    assert one.current().authority == old
    assert "ca-cert.pem" in one.plugged_fault


async def test_a_first_start_on_broken_files_names_every_mistake(
    store: Store, kek: LocalKek, clock: Hands, tmp_path: Path
) -> None:
    (tmp_path / "cacerts").mkdir()
    with pytest.raises(BadFile) as caught:
        await authorities(store.authorities, kek, clock, plugged=tmp_path / "cacerts").ensure()
    named = {Path(m.file).name for m in caught.value.mistakes}
    assert named == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}
