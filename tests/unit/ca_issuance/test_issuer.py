"""The issuer's steps in their order, and what becomes of an issuance that does not come through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
import structlog.testing
from cryptography import x509

from citadel.audit import AuditEvent
from citadel.ca import keys
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.lint import LintedCertificate
from citadel.ca.model import IssuanceIntent, IssuanceOutcome, IssuedSvid, Outcome
from citadel.ca.ports import SigningAuthority
from citadel.ca.signers import SoftwareSigner
from citadel.errors import BadCsr, InternalFault, InvalidInput, Unavailable
from citadel.spiffe import SpiffeId
from tests.support.issuance import (
    NOW,
    WEB,
    Chain,
    CountingMeter,
    CurrentAuthority,
    MemoryIssuanceLog,
    SetClock,
    make_chain,
    make_csr,
)
from tests.support.verdicts import assert_pkilint_content, openssl_verify

HOUR = timedelta(hours=1)


@dataclass
class Bench:
    """An issuer with everything around it."""

    chain: Chain
    log: MemoryIssuanceLog = field(default_factory=MemoryIssuanceLog)
    clock: SetClock = field(default_factory=SetClock)
    meter: CountingMeter = field(default_factory=CountingMeter)
    policy: IssuancePolicy = field(default_factory=IssuancePolicy)

    def __post_init__(self) -> None:
        self.current = CurrentAuthority(self.chain.signing_authority())
        self.issuer = Issuer(self.current, self.log, self.clock, self.policy, meter=self.meter)

    async def issue(self, **changes: object) -> IssuedSvid:
        return await self.issuer.issue(replace(REQUEST, **changes))  # type: ignore[arg-type]  # fields of a request

    def only_row(self) -> tuple[IssuanceIntent, Outcome | None, str]:
        (row,) = self.log.rows.values()
        return row.intent, row.outcome, row.detail


KEY = keys.generate()
REQUEST = IssueRequest(
    spiffe_id=WEB,
    entry_id="entry-1",
    csr=make_csr(KEY),
    requester="spiffe://example.org/agent/1",
    dns_names=("web.example.org",),
)


@pytest.fixture
async def bench() -> Bench:
    return Bench(await make_chain())


def leaf(svid: IssuedSvid) -> x509.Certificate:
    return x509.load_der_x509_certificate(svid.chain[0])


@pytest.mark.openssl
async def test_a_request_becomes_a_certificate_that_others_accept(bench: Bench) -> None:
    svid = await bench.issue()
    certificate, *between = svid.chain
    for purpose in ("sslserver", "sslclient"):
        openssl_verify(certificate, between, bench.chain.root, purpose=purpose, at=NOW)
    assert_pkilint_content(certificate)
    assert leaf(svid).public_key() == KEY.public_key()
    assert (svid.serial, svid.not_after) == (leaf(svid).serial_number, leaf(svid).not_valid_after_utc)


async def test_the_chain_is_the_leaf_and_what_stands_above_it_without_the_root(bench: Bench) -> None:
    assert (await bench.issue()).chain[1:] == (bench.chain.issuing,)


async def test_an_authority_that_is_its_own_root_is_not_in_the_chain(bench: Bench) -> None:
    signing = bench.chain.signing_authority()
    bench.current.signing = replace(signing, authority=replace(signing.authority, root_skid=signing.authority.skid))
    assert len((await bench.issue()).chain) == 1


async def test_the_record_says_what_was_signed(bench: Bench) -> None:
    svid = await bench.issue()
    row = await bench.log.get(svid.serial)
    assert row.outcome is Outcome.ISSUED
    assert row.fingerprint == keys.fingerprint(svid.chain[0])
    assert row.intent == IssuanceIntent(
        serial=svid.serial,
        spiffe_id=WEB,
        entry_id="entry-1",
        authority=svid.authority,
        not_before=NOW - timedelta(seconds=60),
        not_after=NOW + HOUR,
        dns_names=("web.example.org",),
        key_fingerprint=keys.fingerprint(keys.spki(KEY.public_key())),
        requester="spiffe://example.org/agent/1",
        at=NOW,
    )
    (event,) = bench.log.audit
    assert (event.actor, event.action, event.subject) == (REQUEST.requester, "svid.issue", WEB.uri)
    assert event.detail["serial"] == f"{svid.serial:x}"


class Watched(SoftwareSigner):
    """Signs, and looks at the log when asked to."""

    def __init__(self, key: keys.PrivateKey, log: MemoryIssuanceLog) -> None:
        super().__init__(key)
        self.log = log
        self.on_record: list[bool] = []

    async def sign(self, certificate: LintedCertificate) -> bytes:
        serials = [row.intent.serial for row in self.log.rows.values() if row.outcome is None]
        self.on_record.append(
            any(serial.to_bytes((serial.bit_length() + 7) // 8) in certificate.tbs for serial in serials)
        )
        return await super().sign(certificate)


async def test_nothing_is_signed_before_it_is_on_record(bench: Bench) -> None:
    signer = Watched(bench.chain.issuing_key, bench.log)
    bench.current.signing = bench.chain.signing_authority(signer)
    await asyncio.gather(*(bench.issue() for _ in range(20)))
    assert signer.on_record == [True] * 20


class BrokenLog(MemoryIssuanceLog):
    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        raise Unavailable("the disk is full")


async def test_without_a_record_nothing_is_signed() -> None:
    chain = await make_chain()
    bench = Bench(chain, log=BrokenLog())
    signer = Watched(chain.issuing_key, bench.log)
    bench.current.signing = chain.signing_authority(signer)
    with pytest.raises(Unavailable, match="disk is full"):
        await bench.issue()
    assert signer.on_record == []
    assert bench.meter.results == ["unavailable"]


class ForgetfulLog(MemoryIssuanceLog):
    async def settle(self, outcome: IssuanceOutcome) -> None:
        raise Unavailable("the database is locked")


async def test_a_certificate_whose_outcome_cannot_be_recorded_is_not_handed_out() -> None:
    bench = Bench(await make_chain(), log=ForgetfulLog())
    with pytest.raises(Unavailable, match="locked"):
        await bench.issue()
    assert bench.only_row()[1] is None


async def test_a_refused_request_leaves_no_record(bench: Bench) -> None:
    with pytest.raises(BadCsr):
        await bench.issue(csr=make_csr(uris=("spiffe://example.org/admin",)))
    with pytest.raises(InvalidInput, match="negative"):
        await bench.issue(ttl=timedelta(seconds=-1))
    assert not bench.log.rows
    assert bench.meter.results == ["refused", "refused"]


class OtherKey(SoftwareSigner):
    """Signs with another key than it shows, as a remote one may by mistake."""

    def __init__(self, key: keys.PrivateKey, *, elsewhere: bool) -> None:
        super().__init__(key)
        self._other = SoftwareSigner(keys.generate())
        self._elsewhere = elsewhere

    @property
    def remote(self) -> bool:
        return self._elsewhere

    async def sign(self, certificate: LintedCertificate) -> bytes:
        return await self._other.sign(certificate)


@pytest.mark.parametrize(("elsewhere", "one_in"), [(True, 0), (True, 64), (False, 1)])
async def test_a_signature_that_does_not_verify_is_never_handed_out(elsewhere: bool, one_in: int) -> None:
    bench = Bench(await make_chain(), policy=IssuancePolicy(verify_one_in=one_in))
    bench.current.signing = bench.chain.signing_authority(OtherKey(bench.chain.issuing_key, elsewhere=elsewhere))
    with pytest.raises(InternalFault, match="does not verify"):
        await bench.issue()
    _, outcome, detail = bench.only_row()
    assert outcome is Outcome.FAILED
    assert "does not verify" in detail
    assert bench.meter.results == ["failed"]


async def test_of_our_own_signatures_a_sample_is_verified() -> None:
    bench = Bench(await make_chain(), policy=IssuancePolicy(verify_one_in=4))
    bench.current.signing = bench.chain.signing_authority(OtherKey(bench.chain.issuing_key, elsewhere=False))
    results = await asyncio.gather(*(bench.issue() for _ in range(200)), return_exceptions=True)
    found = sum(isinstance(result, InternalFault) for result in results)
    assert 20 <= found <= 90  # 50 are expected; the chance to miss these bounds is below one in ten million


async def test_a_signer_with_another_key_than_its_certificate_is_not_used(bench: Bench) -> None:
    bench.current.signing = bench.chain.signing_authority(SoftwareSigner(keys.generate()))
    with pytest.raises(InternalFault, match="another key than its certificate"):
        await bench.issue()
    assert not bench.log.rows


async def test_names_that_no_certificate_may_bear_are_stopped_by_the_linter(bench: Bench) -> None:
    with pytest.raises(InternalFault, match="not a host name"):
        await bench.issue(dns_names=("*.example.org",))
    assert bench.only_row()[1] is Outcome.FAILED


class Stuck(SoftwareSigner):
    async def sign(self, certificate: LintedCertificate) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("never reached")


async def test_an_issuance_that_is_cancelled_is_settled_as_failed(bench: Bench) -> None:
    bench.current.signing = bench.chain.signing_authority(Stuck(bench.chain.issuing_key))
    task = asyncio.create_task(bench.issue())
    while not bench.log.rows:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    _, outcome, detail = bench.only_row()
    assert (outcome, detail) == (Outcome.FAILED, "cut off: CancelledError")


class SlowLog(MemoryIssuanceLog):
    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        await super().intend(intent, audit)
        await asyncio.Event().wait()


async def test_a_request_that_is_cancelled_while_it_is_recorded_is_settled_too() -> None:
    bench = Bench(await make_chain(), log=SlowLog())
    task = asyncio.create_task(bench.issue())
    while not bench.log.rows:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.only_row()[1] is Outcome.FAILED


async def test_randomness_that_repeats_is_noticed_and_harms_no_earlier_record() -> None:
    bench = Bench(await make_chain())
    issuer = Issuer(bench.current, bench.log, bench.clock, bench.policy, entropy=lambda size: b"\x07" * size)
    await issuer.issue(REQUEST)
    with pytest.raises(InternalFault, match="was used before: the source of randomness repeats"):
        await issuer.issue(REQUEST)
    assert bench.only_row()[1] is Outcome.ISSUED


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (timedelta(0), HOUR),
        (timedelta(seconds=5), timedelta(seconds=5)),
        (timedelta(hours=3), timedelta(hours=3)),
        (timedelta(days=1), timedelta(days=1)),
    ],
)
async def test_a_leaf_lives_as_long_as_asked(bench: Bench, asked: timedelta, given: timedelta) -> None:
    svid = await bench.issue(ttl=asked)
    assert svid.not_after == NOW + given
    assert svid.not_before == NOW - timedelta(seconds=60)


async def test_a_lifetime_beyond_the_longest_is_refused_and_cut_only_for_an_entry_that_was_valid_when_made(
    bench: Bench,
) -> None:
    with pytest.raises(InvalidInput, match=r"3 days.* is longer than the longest, 1 day"):
        await bench.issue(ttl=timedelta(days=3))
    assert not bench.log.rows
    assert (await bench.issue(ttl=timedelta(days=3), cut_ttl=True)).not_after == NOW + timedelta(days=1)


async def test_nobody_of_another_trust_domain_is_certified_whoever_asks(bench: Bench) -> None:
    other = SpiffeId.parse("spiffe://other.org/web")
    with pytest.raises(InvalidInput, match=r"other.org/web is not in the trust domain example.org"):
        await bench.issue(spiffe_id=other, csr=make_csr(KEY, uris=(other.uri,)))
    assert not bench.log.rows


async def test_a_leaf_ends_with_whatever_ends_first_above_it(bench: Bench) -> None:
    begins, ends = NOW - timedelta(seconds=5), NOW + timedelta(minutes=7)
    bench.current.signing = replace(bench.chain.signing_authority(), begins=begins, ends=ends)
    svid = await bench.issue()
    assert (svid.not_before, svid.not_after) == (begins, ends)
    assert leaf(svid).not_valid_after_utc == ends


async def test_a_leaf_ends_with_its_authority_at_the_latest(bench: Bench) -> None:
    end = bench.chain.parent.not_after
    bench.clock.move(end - NOW - timedelta(minutes=10))
    assert (await bench.issue()).not_after == end
    assert (await bench.issue(ttl=timedelta(minutes=2))).not_after < end


@pytest.mark.parametrize("beyond", [timedelta(seconds=-5), timedelta(0), timedelta(days=1)])
async def test_an_authority_that_has_expired_or_is_about_to_signs_nothing(bench: Bench, beyond: timedelta) -> None:
    bench.clock.move(bench.chain.parent.not_after - NOW + beyond)
    with pytest.raises(Unavailable, match="the signing certificate ends at"):
        await bench.issue()
    assert not bench.log.rows
    assert bench.meter.results == ["unavailable"]


async def test_a_clock_that_was_set_back_before_the_authority_signs_nothing(bench: Bench) -> None:
    bench.clock.move(timedelta(days=-1))
    with pytest.raises(Unavailable, match="not valid before"):
        await bench.issue()


class Exchanged(MemoryIssuanceLog):
    """While something is written down, another authority becomes the current one."""

    current: CurrentAuthority
    next: SigningAuthority

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        await super().intend(intent, audit)
        self.current.signing = self.next


async def test_an_issuance_keeps_the_authority_that_it_began_with() -> None:
    log = Exchanged()
    bench, other = Bench(await make_chain(), log=log), await make_chain()
    log.current, log.next = bench.current, other.signing_authority()
    first, second = await bench.issue(), await bench.issue()
    leaf(first).verify_directly_issued_by(x509.load_der_x509_certificate(bench.chain.issuing))
    leaf(second).verify_directly_issued_by(x509.load_der_x509_certificate(other.issuing))
    assert first.chain[1:] == (bench.chain.issuing,)
    assert second.chain[1:] == (other.issuing,)


async def test_what_was_left_unfinished_is_settled_as_unknown_at_the_next_start(bench: Bench) -> None:
    chain = bench.chain
    dying = Bench(chain, log=SlowLog())
    task = asyncio.create_task(dying.issue())
    while not dying.log.rows:
        await asyncio.sleep(0)
    unfinished = next(iter(dying.log.rows.values()))  # as a process that is killed leaves it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    bench.clock.move(timedelta(seconds=1))
    bench.log.rows[unfinished.intent.serial] = unfinished
    restarted = Issuer(bench.current, bench.log, bench.clock, bench.policy)
    svid = await restarted.issue(REQUEST)
    assert await restarted.settle_unfinished(older_than=timedelta(seconds=10)) == 0
    assert await restarted.settle_unfinished() == 1
    assert (await bench.log.get(unfinished.intent.serial)).outcome is Outcome.UNKNOWN
    assert (await bench.log.get(svid.serial)).outcome is Outcome.ISSUED
    assert await restarted.settle_unfinished() == 0


async def test_each_issuance_is_one_line_in_the_log_and_holds_nothing_secret(bench: Bench) -> None:
    with structlog.testing.capture_logs() as lines:
        svid = await bench.issue()
        with pytest.raises(BadCsr):
            await bench.issue(csr=b"rubbish")
    issued, refused = lines
    assert issued == {
        "event": "issued",
        "log_level": "info",
        "spiffe_id": WEB.uri,
        "serial": f"{svid.serial:x}",
        "authority": svid.authority.hex,
        "not_after": "2026-11-23T13:00:00+00:00",
        "entry": "entry-1",
        "requester": REQUEST.requester,
        "seconds": 0.0,
    }
    assert (refused["event"], refused["result"]) == ("not issued", "refused")
    assert "the CSR cannot be read" in refused["error"]


async def test_many_issuances_at_once_have_serials_of_their_own(bench: Bench) -> None:
    svids = await asyncio.gather(*(bench.issue() for _ in range(200)))
    assert len({svid.serial for svid in svids}) == 200
    assert bench.meter.results == ["issued"] * 200
    assert all(row.outcome is Outcome.ISSUED for row in bench.log.rows.values())
