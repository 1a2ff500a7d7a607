"""Renewal of the issuing CA by a clock that goes on for weeks, jumps, or nears the root's end."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.certificates import parse
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.ca.roots import DiskRoot
from citadel.errors import FailedPrecondition, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store import Store
from tests.support.clock import ManualClock
from tests.support.issuance import MemoryIssuanceLog, make_csr

TD = TrustDomain("example.org")
WEB = SpiffeId.parse("spiffe://example.org/web")
CSR = make_csr()
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
WEEK = 7 * DAY


@dataclass
class Site:
    """One Citadel with a clock that a test moves."""

    store: Store
    clock: ManualClock
    kek: LocalKek
    root_ttl: timedelta

    async def start(self) -> None:
        ring = Keyring(self.store.authorities, self.kek)
        root = DiskRoot(self.store.authorities, ring, self.clock, TD, ttl=self.root_ttl, issuing_ttl=WEEK)
        self.authorities = Authorities(
            self.store.authorities, ring, root, self.clock, TD, AuthorityPolicy(WEEK, longest_leaf=DAY)
        )
        self.issuer = Issuer(self.authorities, MemoryIssuanceLog(), self.clock, IssuancePolicy(longest_ttl=DAY))
        await self.authorities.ensure()

    async def issue(self, ttl: timedelta = DAY) -> x509.Certificate:
        """A leaf, verified up to the root as a relying party would, now and to its very end."""
        svid = await self.issuer.issue(IssueRequest(WEB, "e", CSR, "test", ttl=ttl))
        line = [*map(parse, svid.chain), parse((await self.root()).certificate.der)]
        for below, above in zip(line, line[1:], strict=False):  # noqa: RUF007  # reads as the chain does
            below.verify_directly_issued_by(above)
            assert above.not_valid_before_utc <= below.not_valid_before_utc <= self.clock.now()
            assert below.not_valid_after_utc <= above.not_valid_after_utc
        return line[0]

    async def of(self, kind: AuthorityKind, *states: AuthorityState) -> list[Authority]:
        return [a for a in await self.authorities.all() if a.kind is kind and a.state in states]

    async def root(self) -> Authority:
        (root,) = await self.of(AuthorityKind.ROOT, AuthorityState.ACTIVE)
        return root

    async def signing(self) -> Authority:
        (issuing,) = await self.of(AuthorityKind.ISSUING, AuthorityState.ACTIVE)
        return issuing


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    ttl = getattr(request, "param", 3650 * DAY)
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:
        one = Site(store, ManualClock(), LocalKek(os.urandom(32)), ttl)
        await one.start()
        yield one


async def test_through_ten_weeks_no_leaf_is_cut_short_and_one_ca_signs(site: Site) -> None:
    made = {(await site.signing()).skid}
    for step in range(10 * 7 * 2):
        site.clock.advance(12 * HOUR)
        if step % 20 == 19:
            await site.start()  # a restart now and then
        else:
            await site.authorities.renew_if_due()
        made.add((await site.signing()).skid)
        assert (await site.issue()).not_valid_after_utc == site.clock.now().replace(microsecond=0) + DAY
    assert 18 <= len(made) <= 22, "every half week a new one"
    kept = await site.of(AuthorityKind.ISSUING, AuthorityState.ACTIVE, AuthorityState.RETIRING)
    assert len(kept) <= 3
    assert len((await site.authorities.bundle()).roots) == 1


@pytest.mark.parametrize("site", [30 * DAY], indirect=True)
async def test_near_the_roots_end_nothing_outlives_it_and_the_operator_is_told_in_time(site: Site) -> None:
    end = (await site.root()).certificate.not_after
    told_at: datetime | None = None
    while site.clock.now() < end - 6 * HOUR:
        await site.authorities.renew_if_due()
        assert (await site.signing()).certificate.not_after <= end
        assert (await site.issue()).not_valid_after_utc <= end
        told = [sentence for sentence in site.authorities.waiting() if "everybody must know another root" in sentence]
        if told and told_at is None:
            told_at = site.clock.now()
        assert bool(told) is (told_at is not None), "once told, told until it is mended"
        site.clock.advance(6 * HOUR)
    assert told_at is not None
    assert end - told_at >= 13 * DAY
    assert (await site.signing()).certificate.not_after >= end - WEEK / 20


@pytest.mark.parametrize("site", [30 * DAY], indirect=True)
async def test_at_the_roots_end_issuance_is_refused_with_the_reason(site: Site) -> None:
    end = (await site.root()).certificate.not_after
    for left in (20 * DAY, 16 * DAY, 12 * DAY, 8 * DAY, 4 * DAY):
        site.clock.jump(end - left - site.clock.now())
        await site.authorities.renew_if_due()
    last = (await site.signing()).certificate.not_after
    assert last == end
    site.clock.jump(end - 11 * SECOND - site.clock.now())
    assert (await site.issue()).not_valid_after_utc == end
    site.clock.jump(3 * SECOND)
    with pytest.raises(Unavailable, match=r"ends at .*, which leaves less than 0:00:10"):
        await site.issue()
    site.clock.jump(MINUTE)
    await site.authorities.renew_if_due()
    with pytest.raises(Unavailable, match="has expired at"):
        await site.issue()
    assert any("nothing verifies any more" in sentence for sentence in site.authorities.waiting())
    await site.start()  # it starts nevertheless, so that the operator can see and act
    with pytest.raises(Unavailable, match="has expired at"):
        site.authorities.current()


@pytest.mark.parametrize("restart", [False, True])
async def test_a_month_forward_also_while_it_was_down_makes_another_ca(site: Site, restart: bool) -> None:
    old = await site.signing()
    site.clock.jump(30 * DAY)
    if restart:
        await site.start()
    else:
        with pytest.raises(Unavailable, match="has expired at"):
            await site.issue()
        assert await site.authorities.renew_if_due()
    await site.issue()
    assert (await site.signing()).skid != old.skid
    await site.authorities.renew_if_due()
    assert old.skid in {a.skid for a in await site.of(AuthorityKind.ISSUING, AuthorityState.REMOVED)}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_clock_that_goes_forward_and_then_back_is_followed_at_once(site: Site, restart: bool) -> None:
    site.clock.jump(30 * DAY)
    await site.authorities.renew_if_due()
    site.clock.jump(-29 * DAY)  # the CA of a moment ago is of the future now
    with pytest.raises(Unavailable, match="not valid before"):
        await site.issue()
    if restart:
        await site.start()
    else:
        assert await site.authorities.renew_if_due()
    await site.issue()


async def test_a_clock_that_goes_to_and_fro_makes_no_flood_of_cas(site: Site) -> None:
    for _ in range(20):
        for way in (30 * DAY, -30 * DAY):
            site.clock.jump(way)
            site.clock.advance(SECOND)
            await site.authorities.renew_if_due()
    assert len([a for a in await site.authorities.all() if a.kind is AuthorityKind.ISSUING]) <= 4
    site.clock.advance(11 * MINUTE)
    await site.authorities.renew_if_due()
    await site.issue()


async def test_a_clock_before_the_roots_own_time_is_told_and_nothing_is_made(site: Site) -> None:
    before = await site.authorities.all()
    site.clock.jump(-DAY)
    assert not await site.authorities.renew_if_due()
    with pytest.raises(Unavailable) as caught:
        await site.issue()
    assert "check this machine's clock" in caught.value.sentence()
    await site.start()
    assert await site.authorities.all() == before
    site.clock.jump(DAY)
    await site.issue()


async def test_a_leaf_is_backdated_but_never_before_what_signs_it(site: Site) -> None:
    issuing = (await site.signing()).certificate
    assert (await site.issue()).not_valid_before_utc == site.clock.now() - MINUTE
    site.clock.jump(issuing.not_before + 10 * SECOND - site.clock.now())
    assert (await site.issue()).not_valid_before_utc == issuing.not_before


async def test_while_the_root_key_cannot_be_opened_the_present_ca_signs_on_and_the_job_fails(site: Site) -> None:
    site.clock.advance(4 * DAY)
    site.authorities._disk._keyring._kek = LocalKek(os.urandom(32))  # type: ignore[attr-defined]  # somebody swapped it
    with pytest.raises(FailedPrecondition, match="is sealed under local:"):
        await site.authorities.renew_if_due()
    await site.issue()


async def test_a_life_of_chance_leaves_one_signer_and_honest_leaves(site: Site) -> None:
    """Jumps, waits, restarts and renewals in any order. Where the clock is within the root's life, and the last mend
    was ten minutes ago, the next renewal always makes issuance work."""
    chance = random.Random(3)
    for _ in range(80):
        match chance.choice(["wait", "wait", "jump", "restart", "renew", "renew"]):
            case "wait":
                site.clock.advance(chance.random() * 3 * DAY)
            case "jump":
                site.clock.jump(timedelta(days=chance.uniform(-20, 20)))
            case "restart":
                await site.start()
            case _:
                await site.authorities.renew_if_due()
        assert len(await site.of(AuthorityKind.ISSUING, AuthorityState.ACTIVE)) == 1
        try:
            await site.issue(HOUR)
        except Unavailable:
            site.clock.advance(11 * MINUTE)
            await site.authorities.renew_if_due()
            root = (await site.root()).certificate
            if root.not_before <= site.clock.now() < root.not_after - DAY:
                await site.issue(HOUR)
