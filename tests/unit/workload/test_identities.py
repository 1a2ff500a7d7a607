"""Identities over a server in memory with a real issuer, and a clock that goes where it is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from structlog.testing import capture_logs

from citadel.held import HeldIdentity
from citadel.workload.identities import Identities
from citadel.workload.keys import WorkloadKeys
from citadel.workload.upstream import AssignedEntry, Reissue
from tests.support.clock import ManualClock
from tests.support.upstream import MemoryUpstream, assigned

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Meter:
    """Contract: workload.ports.WorkloadMeter. Remembers what it was told."""

    def __init__(self) -> None:
        self.renewals: list[str] = []
        self.held = 0
        self.soonest: datetime | None = None

    def attestation(self, attestor: str, outcome: str, seconds: float) -> None: ...

    def renewal(self, outcome: str) -> None:
        self.renewals.append(outcome)

    def identities(self, held: int, soonest: datetime | None) -> None:
        self.held, self.soonest = held, soonest

    def refused(self, quota: str) -> None: ...


class Node:
    """Identities at work, and somebody who uses those of `used`."""

    def __init__(self, upstream: MemoryUpstream, clock: ManualClock, identities: Identities, meter: Meter) -> None:
        self.upstream, self.clock, self.identities, self.meter = upstream, clock, identities, meter
        self.used: set[str] = set()
        self.told: list[str] = []
        identities.listen(self)

    def uses(self, entry_id: str) -> bool:
        return entry_id in self.used

    def entries_changed(self, before: Mapping[str, AssignedEntry], entry_ids: Collection[str]) -> None: ...

    def identity_changed(self, entry_id: str) -> None:
        self.told.append(entry_id)

    def bundles_changed(self) -> None: ...

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.005)

    async def use(self, *entries: AssignedEntry) -> None:
        """Register them and ask for them."""
        await self.upstream.put(*entries)
        await self.until(lambda: all(e.id in self.identities.entries for e in entries))
        self.used |= {e.id for e in entries}
        for entry in entries:
            self.identities.identity(entry.id)

    def serial(self, name: str = "web") -> int:
        identity = self.identities.identity(name)
        return identity.serial if identity else 0

    async def get(self, name: str = "web", *, other_than: int = 0) -> HeldIdentity:
        await self.until(lambda: self.serial(name) not in (0, other_than))
        identity = self.identities.identity(name)
        assert identity is not None
        return identity

    async def looked(self, times: int = 3) -> None:
        """Let it look at the clock a few times."""
        await asyncio.sleep(0.02 * times)


@asynccontextmanager
async def node(**more: Any) -> AsyncIterator[Node]:
    clock, meter = ManualClock(), Meter()
    upstream = await MemoryUpstream.make(clock)
    identities = Identities(upstream, clock, meter=meter, jitter=random.Random(7), look=timedelta(seconds=0.01), **more)
    running = asyncio.create_task(identities.run())
    try:
        yield Node(upstream, clock, identities, meter)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_certificate_is_renewed_at_half_its_life_with_a_new_key() -> None:
    async with node() as one:
        await one.use(assigned("web", ttl=HOUR))
        first = await one.get()
        one.clock.advance(timedelta(minutes=26))
        await one.looked()
        assert one.serial() == first.serial
        one.clock.advance(timedelta(minutes=8))
        second = await one.get(other_than=first.serial)
        assert second.private_key != first.private_key
        assert second.not_after == one.clock.now() + HOUR
        assert one.meter.renewals == ["first", "renewed"]


async def test_the_key_fits_the_certificate_and_nothing_shows_it() -> None:
    async with node() as one:
        await one.use(assigned("web"))
        held = await one.get()
    key = serialization.load_der_private_key(held.private_key, None)
    leaf = x509.load_der_x509_certificate(held.chain[0])
    assert key.public_key() == leaf.public_key()
    assert held.private_key.hex() not in repr(held)


@pytest.mark.parametrize(
    ("kind", "size"), [("ec-p256", 256), ("ec-p384", 384), ("rsa-2048", 2048), ("rsa-3072", 3072), ("rsa-4096", 4096)]
)
async def test_workloads_get_the_kind_of_key_that_is_configured(kind: str, size: int) -> None:
    async with node(keys=WorkloadKeys(kind)) as one:
        await one.use(assigned("web"))
        key = x509.load_der_x509_certificate((await one.get()).chain[0]).public_key()
    assert isinstance(key, rsa.RSAPublicKey if kind.startswith("rsa") else ec.EllipticCurvePublicKey)
    assert key.key_size == size


async def test_making_rsa_keys_does_not_stop_the_loop() -> None:
    """Measured in CPU time of this thread, which a busy machine does not stretch."""
    keys = WorkloadKeys("rsa-4096")
    before = time.thread_time()
    await asyncio.gather(*(keys.make() for _ in range(4)))
    assert time.thread_time() - before < 0.05  # four of them cost seconds, elsewhere


async def test_while_the_server_is_away_it_goes_on_and_says_how_long_that_lasts() -> None:
    async with node() as one:
        await one.use(assigned("web", ttl=HOUR), assigned("cart", ttl=2 * HOUR))
        first = await one.get()
        await one.get("cart")
        one.upstream.away = True
        with capture_logs() as logs:
            one.clock.advance(timedelta(minutes=40))
            await one.until(lambda: one.identities.outage() and logs)
            outage = one.identities.outage()
            assert outage is not None
            assert one.identities.identity("web") == first
            assert outage.sentence() == (
                "no certificates since 2026-11-23T12:40:00Z: the server does not answer; "
                "the 2 held are served on, and the first ends at 2026-11-23T13:00:00Z, in 20m"
            )
            assert [entry["event"] for entry in logs] == [outage.sentence()]
            assert logs[0]["lasts_seconds"] == 20 * 60
            [status] = [s for s in one.identities.status() if s.entry_id == "web"]
            assert (status.last_error, status.not_after) == ("the server does not answer", first.not_after)
            one.upstream.away = False
            one.clock.advance(timedelta(seconds=30))
            await one.get(other_than=first.serial)
            await one.until(lambda: one.identities.outage() is None)
            assert logs[-1]["event"] == "certificates are to be had again"


async def test_what_ran_out_while_the_server_was_away_is_said_aloud_once_and_mended_when_it_is_back() -> None:
    async with node() as one:
        await one.use(assigned("web", ttl=HOUR))
        first = await one.get()
        one.upstream.away = True
        with capture_logs() as logs:
            one.clock.advance(2 * HOUR)
            await one.until(lambda: any("run out" in entry["event"] for entry in logs))
            for _ in range(3):
                one.clock.advance(timedelta(seconds=30))
                await one.looked()
            assert sum("run out" in entry["event"] for entry in logs) == 1
            outage = one.identities.outage()
            assert outage is not None
            assert "of the 1 held the first ended at 2026-11-23T13:00:00Z" in outage.sentence()
        one.upstream.away = False
        one.clock.advance(timedelta(seconds=30))
        await one.get(other_than=first.serial)


async def test_retries_come_ever_more_seldom() -> None:
    async with node() as one:
        one.upstream.away = True
        await one.use(assigned("web"))
        await one.until(lambda: one.upstream.asked)
        for _ in range(100):
            one.clock.advance(timedelta(seconds=0.3))
            await one.looked(1)
        assert 5 <= len(one.upstream.asked) <= 25  # in 30 s; without backoff there were as many as looks


async def test_a_server_that_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citadel.workload.obtaining._ANSWER_SECONDS", 0.05)
    async with node() as one:
        one.upstream.hold.clear()
        await one.use(assigned("web"))
        await one.until(one.identities.outage)
        outage = one.identities.outage()
        assert outage is not None
        assert "did not answer within" in outage.error
        one.upstream.hold.set()
        one.clock.advance(timedelta(seconds=10))
        await one.get()


async def test_a_clock_that_jumps_past_expiry_is_answered_with_a_renewal() -> None:
    async with node() as one:
        await one.use(assigned("web"))
        first = await one.get()
        one.clock.jump(2 * DAY)
        assert (await one.get(other_than=first.serial)).not_after == one.clock.now() + HOUR


async def test_a_clock_that_goes_back_a_day_is_answered_with_one_renewal() -> None:
    async with node() as one:
        await one.use(assigned("web"))
        first = await one.get()
        one.clock.jump(-DAY)
        second = await one.get(other_than=first.serial)
        leaf = x509.load_der_x509_certificate(second.chain[0])
        assert leaf.not_valid_before_utc <= one.clock.now() < leaf.not_valid_after_utc
        await one.looked(5)
        assert one.serial() == second.serial


async def test_an_unused_identity_is_not_renewed_but_forgotten() -> None:
    async with node() as one:
        await one.use(assigned("web"))
        await one.get()
        one.used.clear()
        one.clock.advance(timedelta(minutes=40))
        await one.until(lambda: not one.identities.status())
        assert one.upstream.asked == ["web"]


async def test_after_its_entry_is_deleted_an_identity_is_not_renewed_and_what_is_on_its_way_is_thrown_away() -> None:
    async with node() as one:
        await one.use(assigned("web"), assigned("other"))
        await one.get()
        await one.get("other")
        one.upstream.hold.clear()
        one.clock.advance(timedelta(minutes=40))
        await one.until(lambda: len(one.upstream.asked) == 4)
        told = len(one.told)
        await one.upstream.delete("web")
        await one.until(lambda: "web" not in one.identities.entries)
        one.upstream.hold.set()
        await one.until(lambda: len(one.told) > told)
        assert one.told[told:] == ["other"]
        assert one.identities.identity("web") is None
        assert [status.entry_id for status in one.identities.status()] == ["other"]


async def test_an_entry_whose_ttl_changes_gets_a_certificate_of_that_life_at_once() -> None:
    async with node() as one:
        await one.use(entry := assigned("web", ttl=HOUR))
        first = await one.get()
        await one.upstream.put(replace(entry, x509_ttl=2 * HOUR, revision=1))
        second = await one.get(other_than=first.serial)
        assert second.not_after == one.clock.now() + 2 * HOUR


async def test_an_entry_that_changes_while_its_certificate_is_made_gets_another_one() -> None:
    async with node() as one:
        one.upstream.hold.clear()
        await one.use(entry := assigned("web", ttl=HOUR))
        await one.until(lambda: one.upstream.asked)
        changed = replace(entry, dns_names=("web.example.org",), revision=1)
        await one.upstream.put(changed)
        await one.until(lambda: one.identities.entries["web"] == changed)
        one.upstream.hold.set()
        assert (await one.get()).dns_names == ("web.example.org",)
        assert one.upstream.asked == ["web", "web"]


async def test_what_no_certificate_shows_can_change_without_a_new_one() -> None:
    async with node() as one:
        await one.use(entry := assigned("web"))
        first = await one.get()
        await one.upstream.put(replace(entry, hint="internal", labels=(("a", "b"),), revision=1))
        await one.until(lambda: one.identities.identity("web") == replace(first, hint="internal"))
        assert one.upstream.asked == ["web"]


async def test_thousands_that_begin_together_neither_come_all_at_once_nor_renew_together() -> None:
    entries = [assigned(f"w{number}") for number in range(2000)]
    async with node() as one:
        await one.use(*entries)
        await one.until(lambda: one.meter.renewals.count("first") == len(entries))
        assert one.upstream.most <= 4 * 64
        times = sorted(status.renew_at for status in one.identities.status() if status.renew_at)
    assert times[-1] - times[0] > timedelta(minutes=5)
    for start in range(0, 2000, 100):  # no minute has much more than its share of the six
        assert sum(times[start] <= t < times[start] + timedelta(minutes=1) for t in times) < 500


async def test_who_waits_for_a_first_certificate_goes_before_renewals() -> None:
    async with node() as one:
        await one.use(*(assigned(f"w{number}") for number in range(1000)))
        await one.until(lambda: one.meter.renewals.count("first") == 1000)
        one.upstream.hold.clear()
        one.clock.advance(timedelta(minutes=50))
        await one.until(lambda: len(one.upstream.asked) == 1000 + 4 * 64)
        await one.use(assigned("late"))
        one.upstream.hold.set()
        await one.get("late")
        assert "late" in one.upstream.asked[1000 : 1000 + 6 * 64]


async def test_what_is_held_and_the_first_to_end_are_shown() -> None:
    async with node() as one:
        await one.use(assigned("web", ttl=HOUR), assigned("cart", ttl=2 * HOUR))
        await one.until(lambda: one.meter.held == 2)
        assert one.meter.soonest == one.clock.now() + HOUR


async def test_certificates_of_an_authority_that_is_left_are_replaced_at_the_stated_rate_the_soonest_first() -> None:
    async with node() as one:
        entries = [assigned(f"w{n}", ttl=HOUR + timedelta(minutes=n)) for n in range(4)]
        await one.use(*reversed(entries))
        await one.until(lambda: all(one.identities.identity(e.id) for e in entries))
        before = {e.id: one.serial(e.id) for e in entries}
        authority = one.identities.identity("w0").authority  # type: ignore[union-attr]  # it is there
        await one.upstream.put_reissue(Reissue(frozenset({authority}), per_second=1.0))
        soon = one.clock.now() + timedelta(seconds=5)
        await one.until(lambda: all(s.renew_at and s.renew_at < soon for s in one.identities.status()))
        due = sorted(one.identities.status(), key=lambda s: s.renew_at or soon)
        assert [s.entry_id for s in due] == ["w0", "w1", "w2", "w3"]
        for number, status in enumerate(due):
            assert (
                timedelta(seconds=number)
                <= (status.renew_at or soon) - one.clock.now()
                <= timedelta(seconds=number + 1)
            )
        one.clock.advance(timedelta(seconds=4))
        await one.until(lambda: all(one.serial(e) != before[e] for e in before))
