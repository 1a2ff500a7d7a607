"""The contracts of ports.Certifier and ports.BroughtIssuingCa: over the contract double, and a real OpenBao."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.audit import AuditEvent
from citadel.ca import keys
from citadel.ca.certificates import parse
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Outcome
from citadel.ca.ports import Certifier, SigningAuthority
from citadel.ca.roots import DiskRoot, IssuingCas, RootMakers
from citadel.ca.signers import SealedKeys
from citadel.clock import SystemClock
from citadel.errors import FailedPrecondition, InternalFault, Unavailable
from citadel.store import Store
from citadel.vault import IssuerReference, LeafProfile, PkiMount, Session, VaultKeys, VaultLeafIssuer, VaultRoot
from tests.support.issuance import TRUST_DOMAIN, WEB, CurrentAuthority, MemoryIssuanceLog, make_csr
from tests.support.vault import Vault, running

HOUR = timedelta(hours=1)
PROFILE = LeafProfile(TRUST_DOMAIN, HOUR * 24, HOUR, timedelta(seconds=60), "ec", 256)


@dataclass
class World:
    """A root and a leaf issuer in Vault, and an issuer of ours on top."""

    vault: Vault
    session: Session
    root: Authority
    root_mount: str
    mount: str
    issuer_id: str
    issuing: Authority
    certifier: Certifier
    log: MemoryIssuanceLog
    issuer: Issuer

    def loader(self, issuer: str = "", mount: str = "") -> VaultLeafIssuer:
        where = IssuerReference(mount or self.mount, issuer)
        return VaultLeafIssuer(self.session, where, TRUST_DOMAIN, SystemClock())

    async def issue(self, **more: Any) -> x509.Certificate:
        svid = await self.issuer.issue(IssueRequest(WEB, "entry", make_csr(**more.pop("csr", {})), "test", **more))
        return x509.load_der_x509_certificate(svid.chain[0])


@pytest.fixture(params=["double", "bao"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    with running(request.param, tmp_path) as vault:
        root_mount = vault.mount("pki")
        root_id = vault.new_root(root_mount)
        mount, issuer_id = vault.new_leaf_issuer(root_mount, root_id, PROFILE)
        session = vault.session(timeout=timedelta(seconds=2))
        clock = SystemClock()
        state = await VaultRoot(PkiMount(session, root_mount), root_id, TRUST_DOMAIN, clock, issuing_ttl=HOUR).load()
        now = clock.now()
        root = Authority(
            state.skid,
            AuthorityKind.ROOT,
            AuthorityState.ACTIVE,
            TRUST_DOMAIN,
            KeySource.VAULT,
            state.roots,
            state.skid,
            now,
            now,
        )
        loader = VaultLeafIssuer(session, IssuerReference(mount, ""), TRUST_DOMAIN, clock)
        issuing = await loader.load(root, AuthorityState.ACTIVE)
        certifier = await VaultKeys(session, clock, role="citadel").signer(issuing)
        assert isinstance(certifier, Certifier)
        log = MemoryIssuanceLog()
        current = CurrentAuthority(SigningAuthority(issuing, certifier))
        issuer = Issuer(current, log, clock, IssuancePolicy())
        yield World(vault, session, root, root_mount, mount, issuer_id, issuing, certifier, log, issuer)
        await session.close()


async def test_a_leaf_is_made_there_as_it_was_meant_and_is_on_record_under_its_own_serial(world: World) -> None:
    made = await world.issue(csr={"uris": ()})  # the name comes from us, not from the request
    made.verify_directly_issued_by(parse(world.issuing.certificate.der))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WEB.uri]
    assert not made.subject.rdns
    (record,) = world.log.rows.values()
    assert record.intent.serial == made.serial_number
    assert record.outcome is Outcome.ISSUED
    assert record.fingerprint == keys.fingerprint(made.public_bytes(Encoding.DER))
    intent, certified = world.log.audit
    assert certified.detail["intent"] == intent.detail["serial"]
    assert certified.detail["serial"] == f"{made.serial_number:x}"


async def test_it_is_found_and_chains_to_its_root_pinned_or_the_only_one(world: World) -> None:
    for issuer in ("", world.issuer_id):
        again = await world.loader(issuer).load(world.root, AuthorityState.PREPARED)
        assert (again.skid, again.key_ref) == (world.issuing.skid, f"pki:{world.mount}/{world.issuer_id}")
        assert again.chain == ()
        assert again.root_skid == world.root.skid


async def test_an_issuer_that_is_a_root_or_another_roots_is_refused(world: World) -> None:
    other = world.vault.new_root(world.root_mount, "other")
    with pytest.raises(FailedPrecondition, match="is a root"):
        await world.loader(other, world.root_mount).load(world.root, AuthorityState.PREPARED)
    mount, _ = world.vault.new_leaf_issuer(world.root_mount, other, PROFILE)
    with pytest.raises(FailedPrecondition, match="does not chain to the root in force"):
        await world.loader(mount=mount).load(world.root, AuthorityState.PREPARED)


async def test_another_issuing_ca_is_not_made_here_but_pinned(world: World, tmp_path: Path) -> None:
    clock = SystemClock()
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:
        here = SealedKeys(Keyring(store.authorities, LocalKek(os.urandom(32))))
        disk = DiskRoot(
            store.authorities,
            Keyring(store.authorities, LocalKek(os.urandom(32))),
            clock,
            TRUST_DOMAIN,
            ttl=HOUR * 24 * 365,
            issuing_ttl=HOUR * 48,
        )
        cas = IssuingCas(disk, here, keys.KeyType.EC_P256, clock, brought=world.loader())
        makers = RootMakers(disk, cas, store.authorities, clock, TRUST_DOMAIN)
        made = await makers.make_issuing(world.root)
        assert made.authority.skid == world.issuing.skid
        await store.authorities.add(made.authority, None, AuditEvent(clock.now(), "test", "ca.add", "x"))
        with pytest.raises(FailedPrecondition, match="is known already") as caught:
            await makers.make_issuing(world.root)
        assert "pin it" in caught.value.sentence()


async def test_what_the_role_does_not_allow_is_told_and_nothing_is_handed_out(world: World) -> None:
    with pytest.raises(Unavailable, match="not allowed by this role"):
        await world.issue(dns_names=("web.example.org",), csr={"dns_names": ("web.example.org",)})
    (record,) = world.log.rows.values()
    assert record.outcome is Outcome.FAILED


async def test_a_life_that_the_role_cuts_is_what_we_go_by(world: World) -> None:
    world.vault.call("POST", f"{world.mount}/roles/citadel", {**PROFILE.role(), "max_ttl": "600s", "ttl": "600s"})
    made = await world.issue(ttl=HOUR)
    assert made.not_valid_after_utc - datetime.now(UTC) < timedelta(seconds=610)


async def test_while_vault_hangs_it_is_unavailable_and_what_may_have_been_made_counts(world: World) -> None:
    await world.issue()
    world.vault.pause()
    try:
        with pytest.raises(Unavailable):
            await world.issue()
    finally:
        world.vault.resume()
    assert {record.outcome for record in world.log.rows.values()} == {Outcome.ISSUED, Outcome.UNKNOWN}


async def test_a_vault_that_cannot_be_reached_has_made_nothing(world: World) -> None:
    access = world.vault.session(timeout=timedelta(seconds=1))
    access._access = type(access._access)(("http://127.0.0.1:9",), access._access.sign_in)
    access._held = world.session._held
    current = CurrentAuthority(
        SigningAuthority(world.issuing, await VaultKeys(access, SystemClock(), role="citadel").signer(world.issuing))
    )
    with pytest.raises(Unavailable, match="cannot be reached"):
        await Issuer(current, world.log, SystemClock(), IssuancePolicy()).issue(
            IssueRequest(WEB, "entry", make_csr(), "test")
        )
    assert {record.outcome for record in world.log.rows.values()} == {Outcome.FAILED}
    await access.close()


def _answering(make: Callable[[dict[str, Any]], str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {"data": {"certificate": make(body)}}


@pytest.mark.parametrize("world", ["double"], indirect=True)
async def test_a_certificate_that_is_not_what_was_asked_for_is_never_handed_out(world: World) -> None:
    double = world.vault.double
    assert double is not None
    issuer = double.pki.issuers[world.mount][world.issuer_id]

    def made(body: dict[str, Any]) -> str:
        return str(double.pki.sign_leaf(world.mount, issuer, "citadel", body)["certificate"])

    def for_another_name(body: dict[str, Any]) -> str:
        return str(
            double.pki.sign_leaf(world.mount, issuer, "citadel", {**body, "uri_sans": WEB.uri + "x"})["certificate"]
        )

    def for_another_key(body: dict[str, Any]) -> str:
        other = x509.load_der_x509_csr(make_csr()).public_bytes(Encoding.PEM).decode()
        return made({**body, "csr": other})

    def for_longer(body: dict[str, Any]) -> str:
        return made({**body, "ttl": "36000s"})

    def by_another(body: dict[str, Any]) -> str:
        return parse(world.issuing.certificate.der).public_bytes(Encoding.PEM).decode()

    for make, why in (
        (for_another_name, "its names are"),
        (for_another_key, "it is for another key"),
        (for_longer, "later than was asked for"),
        (by_another, "is not signed by"),
    ):
        double.faults = {f"{world.mount}/issuer/{world.issuer_id}/sign": partial(_answering, make)}
        with pytest.raises(InternalFault, match=why):
            await world.issue(ttl=HOUR)
    assert {record.outcome for record in world.log.rows.values()} == {Outcome.FAILED}
