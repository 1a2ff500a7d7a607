"""The authorities' life on a real store: first start, crash at any step, renewal, plugged-in files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import AuthorityKind, AuthorityState
from citadel.ca.roots import CacertsRoot, DiskRoot
from citadel.errors import BadFile, Unavailable
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.cacerts import Mint

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
        if name not in ("add", "add_certificate", "transition", "put_bundle"):
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
