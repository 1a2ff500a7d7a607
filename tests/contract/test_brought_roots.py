"""Roots from outside over a real store: offline ones in two steps, ones that are handed in, cross-signed ones."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from citadel.ca.kek import LocalKek
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.rotation import Phase, RootKind
from citadel.ca.rotation.brought import How
from citadel.ca.rotation.candidates import orphans
from citadel.ca.rotation.commands import Wish
from citadel.errors import Aborted, FailedPrecondition, InvalidInput
from citadel.store import Store
from tests.support.cacerts import DAY, Ca, certified, make_ca, make_crl
from tests.support.clock import ManualClock
from tests.support.issuance import pem
from tests.support.rotation_driver import HANDED_IN, OFFLINE, Drive

WISH = Wish("uid:0", "drill")
A = AuthorityState


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[Drive]:
    async with Store.open(f"sqlite:///{tmp_path}/db/c.db", writer="one") as store:
        made = Drive(store, LocalKek(secrets.token_bytes(32)), ManualClock(datetime.now(UTC)))
        await made.authorities.ensure()
        await made.acknowledge()
        yield made


async def states(drive: Drive, kind: AuthorityKind) -> list[str]:
    return sorted(str(a.state) for a in await drive.authorities.all() if a.kind is kind)


async def to_its_end(drive: Drive) -> None:
    await drive._to_its_end()


async def go_offline(drive: Drive, root: Ca = OFFLINE) -> None:
    request = await drive.brought.request(WISH)
    await drive.brought.accept(certified(request.pem, root, drive.clock.now()), WISH, How())
    await to_its_end(drive)


async def test_an_offline_root_is_rotated_to_in_two_steps_and_its_ca_renewed_in_two_more(drive: Drive) -> None:
    before = drive.authorities.current().authority
    request = await drive.brought.request(WISH)
    assert (await drive.brought.request(WISH)).skid == request.skid
    assert [one.skid for one in await drive.brought.requests()] == [request.skid]
    assert drive.authorities.current().authority == before
    signed = certified(request.pem, OFFLINE, drive.clock.now())
    assert "would go into the trust bundle" in await drive.brought.accept(signed, WISH, How(dry_run=True))
    await drive.brought.accept(signed, WISH, How())
    assert await drive.brought.requests() == []
    await to_its_end(drive)
    now = drive.authorities.current().authority
    assert now.skid == request.skid
    assert now.certificate.subject.startswith("CN=example.org issuing CA ")
    root = next(a for a in await drive.authorities.all() if a.skid == now.root_skid)
    assert (root.certificate.der, root.state, root.key_source) == (OFFLINE.der, A.ACTIVE, KeySource.NONE)

    await drive.authorities.ensure()  # a restart finds nothing to complain of
    assert drive.authorities.waiting() == []
    drive.clock.advance(timedelta(days=20))
    assert not await drive.authorities.renew_if_due()
    assert "--csr-out" in "".join(drive.authorities.waiting())
    again = await drive.brought.request(WISH)
    await drive.brought.accept(certified(again.pem, OFFLINE, drive.clock.now()), WISH, How())
    assert drive.authorities.current().authority.skid == again.skid
    assert len(await drive.store.rotation.plans()) == 1, "its root stays: no rotation"
    assert await states(drive, AuthorityKind.ISSUING) == ["active", "removed", "retiring"]
    assert "offline" in (await _refused(drive.rotations.rotate_issuing(WISH))).mend


async def _refused(call: object) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as refused:
        await call  # type: ignore[misc]  # a coroutine
    return refused.value


async def test_where_envoys_have_crls_nothing_signs_of_which_there_is_none(drive: Drive) -> None:
    """They would refuse every chain that is not covered: of a whole mesh."""
    await drive.authorities._records.publish((make_crl(make_ca("the one before")),))
    with pytest.raises(FailedPrecondition, match=r"Envoys have CRLs, but none of CN=example\.org issuing CA"):
        await drive.rotations.rotate_issuing(WISH)
    request = await drive.brought.request(WISH)
    await drive.brought.accept(certified(request.pem, OFFLINE, drive.clock.now()), WISH, How())
    await drive.acknowledge()
    drive.clock.advance(timedelta(minutes=10))
    await drive.acknowledge()
    assert await drive.rotations.run_due() == []
    with pytest.raises(FailedPrecondition, match=r"Envoys have CRLs, but none of .* and CN=offline"):
        await drive.rotations.activate(WISH)
    await drive.rotations.activate(replace(WISH, force=True))
    bundle = await drive.authorities.bundle()
    assert bundle.crls == (), "all are left without revocations, rather than without everybody"
    (plan,) = await drive.store.rotation.plans()
    assert "the CRLs were taken out" in plan.left_behind[0]
    await drive.authorities._records.publish((make_crl(OFFLINE),))
    with pytest.raises(FailedPrecondition, match="Envoys have CRLs, but none of"):
        await drive.rotations.rollback(WISH)


async def test_an_emergency_does_not_cut_off_everybody_for_want_of_a_crl(drive: Drive) -> None:
    await drive.authorities._records.publish((make_crl(make_ca("the one before")),))
    await drive.rotations.taint(drive.authorities.current().authority.root_skid, WISH, unasked=True)
    await drive.acknowledge()
    drive.clock.advance(timedelta(minutes=10))
    await drive.acknowledge()
    assert await drive.rotations.run_due() == []
    (view,) = await drive.rotations.views()
    assert "Envoys have CRLs" in view.gate.why[0]
    await drive.authorities._records.publish(())
    assert any("signs; certificates" in done for done in await drive.rotations.run_due())


async def test_two_operators_at_once_make_one_rotation_and_the_second_is_told(drive: Drive) -> None:
    request = await drive.brought.request(WISH)
    signed = certified(request.pem, OFFLINE, drive.clock.now())
    both = await asyncio.gather(*(drive.brought.accept(signed, WISH, How()) for _ in range(2)), return_exceptions=True)
    (refused,) = [one for one in both if isinstance(one, Exception)]
    assert isinstance(refused, Aborted | FailedPrecondition)
    assert "citadel root status" in refused.mend
    assert len(await drive.store.rotation.plans()) == 1


async def test_an_emergency_that_meets_another_rotation_makes_that_one_its_own(drive: Drive) -> None:
    """Nobody who calls an emergency is sent away with \"another one is on its way\"."""
    stolen = drive.authorities.current().authority
    results = await asyncio.gather(
        drive.rotations.prepare(WISH),
        drive.rotations.taint(stolen.root_skid, WISH),
        drive.rotations.taint(stolen.root_skid, WISH),
        return_exceptions=True,
    )
    assert [one for one in results[1:] if isinstance(one, Exception)] == []
    (plan,) = await drive.store.rotation.plans()
    assert (plan.emergency, plan.outgoing) == (True, stolen.root_skid)
    left = [a for a in await drive.authorities.all() if (a.kind, a.state) == (AuthorityKind.ROOT, A.PREPARED)]
    assert left, "made, and too late"
    assert orphans(await drive.rotations.world(), RootKind.DISK) == [], "their keys lay where the stolen one did"


async def test_a_request_can_be_given_up_and_what_was_signed_for_it_is_refused(drive: Drive) -> None:
    with pytest.raises(FailedPrecondition, match="no issuing CA waits for its certificate"):
        await drive.brought.accept(OFFLINE.pem, WISH, How())
    first = await drive.brought.request(WISH)
    second = await drive.brought.request(WISH, replace_it=True)
    assert first.skid != second.skid
    assert [one.skid for one in await drive.brought.requests()] == [second.skid]
    with pytest.raises(InvalidInput, match="0 of the 2 certificates are for the key that waits"):
        await drive.brought.accept(certified(first.pem, OFFLINE, drive.clock.now()), WISH, How())
    short = certified(second.pem, OFFLINE, drive.clock.now(), life=timedelta(hours=1))
    with pytest.raises(InvalidInput, match="too soon for leaves"):
        await drive.brought.accept(short, WISH, How())
    assert await states(drive, AuthorityKind.ROOT) == ["active"]


async def test_an_offline_root_that_was_abandoned_is_taken_again_and_one_that_was_removed_is_not(drive: Drive) -> None:
    request = await drive.brought.request(WISH)
    await drive.brought.accept(certified(request.pem, OFFLINE, drive.clock.now()), WISH, How())
    await drive.rotations.abandon(WISH)
    await go_offline(drive)
    await drive.rotations.prepare(WISH)
    await to_its_end(drive)
    request = await drive.brought.request(WISH)
    with pytest.raises(FailedPrecondition, match="is removed: it cannot be rotated to"):
        await drive.brought.accept(certified(request.pem, OFFLINE, drive.clock.now()), WISH, How())


async def test_a_root_that_is_handed_in_is_from_then_on_like_one_of_ours(drive: Drive) -> None:
    assert "would go into" in await drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How(dry_run=True))
    assert await states(drive, AuthorityKind.ROOT) == ["active"]
    await drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How())
    await drive.rotations.abandon(WISH)
    renewed = make_ca("handed in", key=HANDED_IN.key)
    with pytest.raises(InvalidInput, match="its key is that of the root authority"):
        await drive.brought.hand_in(renewed.pem, renewed.key_pem, WISH, How())
    await drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How(auto=False))  # a rehearsal costs no root
    *_, plan = await drive.store.rotation.plans()
    assert (plan.phase, plan.auto) == (Phase.DISTRIBUTING, False)
    with pytest.raises(FailedPrecondition, match="on its way already"):
        await drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How())
    await drive.rotations.activate(Wish("uid:0", force=True))
    await drive.acknowledge()
    assert drive.authorities.current().authority.root_skid == plan.incoming
    drive.clock.advance(timedelta(days=4))
    assert await drive.authorities.renew_if_due(), "its key is here"
    assert "PRIVATE KEY" not in str(await drive.store.audit.read("one", 0, 1000))


async def test_a_ca_that_was_made_elsewhere_is_taken_with_its_key_and_replaced_by_another(
    drive: Drive,
) -> None:
    first, second = (make_ca(name, OFFLINE, path_length=0, ends=30 * DAY) for name in ("first", "second"))
    await drive.brought.plug_in(first.pem + OFFLINE.pem, first.key_pem, WISH, How())
    await to_its_end(drive)
    assert drive.authorities.current().authority.certificate.subject == "CN=first"
    with pytest.raises(InvalidInput, match="its key is that of the issuing authority"):
        await drive.brought.plug_in(first.pem + OFFLINE.pem, first.key_pem, WISH, How())
    with pytest.raises(InvalidInput, match="0 of the 2 certificates"):
        await drive.brought.plug_in(first.pem + OFFLINE.pem, second.key_pem, WISH, How())
    assert "signs; certificates of" in await drive.brought.plug_in(
        second.pem + OFFLINE.pem, second.key_pem, WISH, How()
    )
    assert drive.authorities.current().authority.certificate.subject == "CN=second"
    assert len(await drive.store.rotation.plans()) == 1


async def test_the_root_that_signs_certifies_the_new_one_for_those_who_know_only_it(
    drive: Drive, tmp_path: Path
) -> None:
    narrow = make_ca("narrow", path_length=1, ends=5000 * DAY)  # as roots of ours were once
    await drive.brought.hand_in(narrow.pem, narrow.key_pem, WISH, How())
    await to_its_end(drive)
    for asked in (
        drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How(cross_sign=True)),
        drive.rotations.prepare(WISH, cross_sign=True),
    ):
        with pytest.raises(FailedPrecondition, match="path length 1"):
            await asked
    assert await states(drive, AuthorityKind.ROOT) == ["active", "removed"]
    await drive.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, WISH, How())
    await to_its_end(drive)
    another = make_ca("another", ends=5000 * DAY)
    await drive.brought.hand_in(another.pem, another.key_pem, WISH, How(cross_sign=True))
    await drive._to_its_end(lambda plan: plan.phase is not Phase.DISTRIBUTING)
    (cross,) = drive.authorities.current().authority.chain
    assert x509.load_der_x509_certificate(cross).subject == another.certificate.subject
    served = await leaf(drive, tmp_path)
    assert trusts(another, served)
    assert trusts(HANDED_IN, served)
    assert not trusts(OFFLINE, served)
    await to_its_end(drive)
    assert drive.authorities.current().authority.chain == (), "the old root is gone, and nobody knows it"


async def test_a_root_that_we_made_certifies_its_successor_and_each_may_do_so_in_turn(
    drive: Drive, tmp_path: Path
) -> None:
    for _ in range(2):
        old = await root_in_force(drive)
        await drive.rotations.prepare(WISH, cross_sign=True)
        await drive._to_its_end(lambda plan: plan.phase is not Phase.DISTRIBUTING)
        served = await leaf(drive, tmp_path)
        new = await root_in_force(drive)
        assert new.skid != old.skid
        for root in (old, new):
            key = await drive.ring.open(root.skid)
            assert trusts(Ca(x509.load_der_x509_certificate(root.certificate.der), key), served)
        await to_its_end(drive)
        assert drive.authorities.current().authority.chain == ()


async def test_a_stolen_key_that_the_root_in_force_certified_takes_that_one_with_it(drive: Drive) -> None:
    old = await root_in_force(drive)
    await drive.rotations.prepare(WISH, cross_sign=True)
    stolen = (await drive._plan()).incoming
    would = await drive.rotations.taint(stolen, WISH, unasked=True, dry_run=True)
    assert f"root {old.skid} certified it, so what it signs is trusted while that one is" in would
    await drive.rotations._taint(stolen, WISH, unasked=True, dry_run=False)  # it is cut off here
    assert [plan.is_open for plan in await drive.store.rotation.plans()] == [False]
    assert "certified it" in await drive.rotations.taint(stolen, WISH, unasked=True)
    await to_its_end(drive)
    assert await states(drive, AuthorityKind.ROOT) == ["active", "revoked", "revoked"]
    assert (await root_in_force(drive)).skid not in (old.skid, stolen)
    with pytest.raises(FailedPrecondition, match="nothing left to taint"):
        await drive.rotations.taint(stolen, WISH)


async def test_a_stolen_key_that_signs_takes_the_root_with_it_that_certified_it_and_is_on_its_way_out(
    drive: Drive,
) -> None:
    old = await root_in_force(drive)
    await drive.rotations.prepare(WISH, cross_sign=True)
    await drive._to_its_end(lambda plan: plan.phase is not Phase.DISTRIBUTING)
    stolen = await root_in_force(drive)
    assert f"root {old.skid} certified it" in await drive.rotations.taint(stolen.skid, WISH, unasked=True)
    found = {a.skid: a.state for a in await drive.authorities.all()}
    assert found[old.skid] is A.TAINTED, "it waits for no connections any longer"
    await to_its_end(drive)
    assert await states(drive, AuthorityKind.ROOT) == ["active", "revoked", "revoked"]
    assert (await root_in_force(drive)).skid not in (old.skid, stolen.skid)


async def root_in_force(drive: Drive) -> Authority:
    (found,) = [a for a in await drive.authorities.all() if a.kind is AuthorityKind.ROOT and a.state is A.ACTIVE]
    return found


async def leaf(drive: Drive, folder: Path) -> Path:
    """A file with a leaf of whoever signs now, what is served with it, and its key."""
    signer = drive.authorities.current().authority
    key = await drive.ring.open(signer.skid)
    above = Ca(x509.load_der_x509_certificate(signer.certificate.der), key)
    end = make_ca("leaf", above, ca=False, usage=None, begins=-timedelta(minutes=1), ends=DAY)
    served = [end.der, signer.certificate.der, *signer.chain]
    file = folder / "leaf.pem"
    file.write_bytes(b"".join(map(pem, served)) + end.key_pem)
    return file


def trusts(root: Ca, file: Path) -> bool:
    """Whether a TLS client that knows `root` alone (and not what else of it there is) takes that leaf. By OpenSSL."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=root.pem.decode())
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(ways[0], ways[1])
    two = server.wrap_bio(ways[1], ways[0], server_side=True)
    for _ in range(4):
        for side in (one, two):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return one.getpeercert(binary_form=True) is not None
