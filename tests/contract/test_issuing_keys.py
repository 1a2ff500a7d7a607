"""The contract of ports.IssuingKeys, over every implementation; and what only holds where the key is in Vault."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citadel.audit import AuditEvent
from citadel.ca import keys, profile
from citadel.ca.certificates import parse, read_certificate
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.lint import LintedCertificate, lint
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.ports import Certifier, IssuingKey, IssuingKeys, LeafSigner, Signer
from citadel.ca.profile import Parent, Validity
from citadel.ca.signers import KeyPlaces, SealedKeys, SoftwareSigner
from citadel.ca.signing import sign_certificate, sign_linted
from citadel.ca.tbs import encode
from citadel.clock import SystemClock
from citadel.errors import FailedPrecondition, InternalFault, Unavailable
from citadel.store import Store
from citadel.vault import Session, VaultKeys
from tests.support.issuance import TRUST_DOMAIN, WEB
from tests.support.vault import Vault, running

NOW = datetime.now(UTC)
KINDS = [keys.KeyType.EC_P256, keys.KeyType.EC_P384, keys.KeyType.RSA_2048]


@dataclass
class World:
    keys: IssuingKeys
    store: Store
    again: Callable[[], IssuingKeys]  # as after a restart
    vault: Vault | None = None
    mount: str = ""
    session: Session | None = None

    def change_key(self, authority: Authority, what: str, **settings: object) -> None:
        assert self.vault is not None
        name = authority.key_ref.removeprefix(f"transit:{self.mount}/").partition(":")[0]
        self.vault.call("POST", f"{self.mount}/keys/{name}{what}", settings)


@pytest.fixture(params=["store", "vault-double", "vault-bao"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    kek = LocalKek(os.urandom(32))
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:
        if request.param == "store":

            def sealed() -> IssuingKeys:
                return SealedKeys(Keyring(store.authorities, kek))

            yield World(sealed(), store, sealed)
            return
        with running(request.param.removeprefix("vault-"), tmp_path) as vault:
            mount = vault.mount("transit")
            session = vault.session(timeout=timedelta(seconds=2))
            again = partial(VaultKeys, session, SystemClock(), transit=mount)
            yield World(again(), store, again, vault, mount, session)
            await session.close()


in_vault = pytest.mark.parametrize("world", ["vault-double", "vault-bao"], indirect=True)


async def written_down(world: World, made: IssuingKey) -> Authority:
    """The key as that of an issuing CA, with a certificate for it, as the store has it."""
    root_key = keys.generate()
    root = await sign_certificate(
        profile.root(
            public_key=root_key.public_key(),
            trust_domain=TRUST_DOMAIN,
            validity=Validity.starting(NOW, timedelta(days=30), backdate=timedelta(minutes=1)),
            serial=profile.serial(secrets.token_bytes),
        ),
        SoftwareSigner(root_key),
    )
    parent = Parent.of(root)
    der = await sign_certificate(
        profile.issuing_ca(
            parent=parent,
            public_key=made.private.public_key(),
            trust_domain=TRUST_DOMAIN,
            validity=Validity.starting(NOW, timedelta(days=7), backdate=timedelta(0)),
            serial=profile.serial(secrets.token_bytes),
        ),
        SoftwareSigner(root_key),
    )
    skid = keys.skid(made.private.public_key())
    authority = Authority(
        skid,
        AuthorityKind.ISSUING,
        AuthorityState.PREPARED,
        TRUST_DOMAIN,
        made.source,
        (read_certificate(der),),
        keys.skid(root_key.public_key()),
        NOW,
        NOW,
        key_ref=made.reference,
    )
    await world.store.authorities.add(authority, made.sealed, AuditEvent(NOW, "test", "ca.add", skid.hex))
    (known,) = await world.store.authorities.authorities()
    return known


def leaf(authority: Authority) -> LintedCertificate:
    spec = profile.leaf(
        parent=Parent.of(authority.certificate.der),
        key=keys.SubjectKey.of(keys.generate().public_key()),
        spiffe_id=WEB,
        validity=Validity.starting(NOW, timedelta(hours=1), backdate=timedelta(0)),
        serial=profile.serial(secrets.token_bytes),
    )
    return lint(encode(spec), spec)


def _answering(answer: dict[str, Any], _: object) -> tuple[int, dict[str, Any]]:
    return 200, answer


def signer_of(found: LeafSigner) -> Signer:
    assert not isinstance(found, Certifier)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_was_made_signs_also_after_a_restart(world: World, kind: keys.KeyType) -> None:
    authority = await written_down(world, await world.keys.make(kind))
    for one in (world.keys, world.again()):
        signer = signer_of(await one.signer(authority))
        assert signer.public_key == parse(authority.certificate.der).public_key()
        certificate = x509.load_der_x509_certificate(await sign_linted(leaf(authority), signer, verify=True))
        certificate.verify_directly_issued_by(parse(authority.certificate.der))


@pytest.mark.parametrize("kind", KINDS)
async def test_it_proves_that_it_is_ours_to_whoever_certifies_it(world: World, kind: keys.KeyType) -> None:
    private = (await world.keys.make(kind)).private
    hash_ = keys.signature_algorithm(private.public_key()).hash
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = await asyncio.to_thread(builder.sign, private, hash_)  # type: ignore[arg-type]  # one of the SHA-2s
    assert request.is_signature_valid
    assert request.public_key() == private.public_key()


async def test_each_is_another_and_says_where_it_is(world: World) -> None:
    made = [await world.keys.make(keys.KeyType.EC_P256) for _ in range(3)]
    assert len({keys.skid(one.private.public_key()) for one in made}) == 3
    assert {one.source for one in made} == {world.keys.source}
    assert all((one.sealed is None) is (one.source is KeySource.VAULT) for one in made)
    assert all(bool(one.reference) is (one.source is KeySource.VAULT) for one in made)


async def test_many_may_sign_at_once(world: World) -> None:
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    signer = signer_of(await world.keys.signer(authority))
    wanted = [leaf(authority) for _ in range(100)]
    for certificate, signature in zip(wanted, await asyncio.gather(*(signer.sign(one) for one in wanted)), strict=True):
        keys.verify(signer.public_key, signature, certificate.tbs)


# --- what only holds where the key is in Vault


@in_vault
async def test_of_the_private_key_there_is_nothing_here(world: World) -> None:
    private: Any = (await world.keys.make(keys.KeyType.EC_P256)).private
    with pytest.raises(InternalFault, match="it signs, and does nothing else"):
        private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InternalFault):
        private.private_numbers()


@in_vault
@pytest.mark.parametrize("what", ["exportable", "deletion_allowed"])
async def test_a_key_that_could_leave_vault_is_not_used(world: World, what: str) -> None:
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    world.change_key(authority, "/config", **{what: True})
    signer = signer_of(await world.keys.signer(authority))
    with pytest.raises(Unavailable, match=r"is exportable|may be deleted") as caught:
        await signer.sign(leaf(authority))
    assert "citadel ca rotate" in caught.value.sentence()


@in_vault
async def test_one_that_is_rotated_behind_our_back_goes_on_with_its_own_version(world: World) -> None:
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    world.change_key(authority, "/rotate")
    signer = signer_of(await world.keys.signer(authority))
    certificate = leaf(authority)
    keys.verify(signer.public_key, await signer.sign(certificate), certificate.tbs)
    world.change_key(authority, "/config", min_encryption_version=2)
    with pytest.raises(Unavailable, match="minimum encryption key version"):
        await signer.sign(certificate)


@in_vault
async def test_a_key_of_another_kind_or_none_is_told(world: World) -> None:
    assert world.vault is not None
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    for name, kind, why in (
        ("aes", "aes256-gcm96", "of the type aes256-gcm96, expected ecdsa-p256"),
        ("rsa", "rsa-2048", "of the type rsa-2048"),
        ("other", "ecdsa-p256", "another key than that of the issuing CA"),
    ):
        world.vault.call("POST", f"{world.mount}/keys/{name}", {"type": kind})
        signer = signer_of(await world.keys.signer(replace(authority, key_ref=f"transit:{world.mount}/{name}:v1")))
        with pytest.raises(Unavailable, match=why):
            await signer.sign(leaf(authority))
    signer = signer_of(await world.keys.signer(replace(authority, key_ref=f"transit:{world.mount}/gone:v1")))
    with pytest.raises(Unavailable, match="is not there any more"):
        await signer.sign(leaf(authority))


@in_vault
async def test_while_vault_hangs_it_is_unavailable_and_then_it_signs_by_itself(world: World) -> None:
    assert world.vault is not None
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    signer = signer_of(await world.keys.signer(authority))
    certificate = leaf(authority)
    await signer.sign(certificate)
    world.vault.pause()
    try:
        with pytest.raises(Unavailable) as caught:
            await signer.sign(certificate)
        assert caught.value.retry_after > timedelta(0)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await signer.sign(certificate)  # is told at once
        assert asyncio.get_running_loop().time() - began < 1
    finally:
        world.vault.resume()
    for _ in range(50):
        try:
            signature = await signer.sign(certificate)
            break
        except Unavailable:
            await asyncio.sleep(0.1)
    keys.verify(signer.public_key, signature, certificate.tbs)


@pytest.mark.parametrize("world", ["vault-double"], indirect=True)
async def test_a_signature_that_is_none_of_ours_never_gets_into_a_certificate(world: World) -> None:
    assert world.vault is not None
    assert world.vault.double is not None
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    signer = signer_of(await world.keys.signer(authority))
    strange = base64.b64encode(keys.sign(keys.generate(), b"x")).decode()
    for results, why in (
        ([{"signature": f"vault:v1:{strange}"}], "does not verify"),
        ([{"signature": f"vault:v2:{strange}"}], "signed with its version 2"),
        ([{"signature": "vault:v1:!!!"}], "no signature"),
        ([{}], "no signature"),
        ([], "did not give 1 signatures"),
    ):
        answer: dict[str, Any] = {"data": {"batch_results": results}}
        world.vault.double.faults = {f"{world.mount}/sign": partial(_answering, answer)}
        with pytest.raises(InternalFault, match=why):
            await sign_linted(leaf(authority), signer, verify=False)


async def test_a_key_that_it_made_is_where_new_ones_are_and_that_of_a_ca_that_was_brought_is_not(world: World) -> None:
    authority = await written_down(world, await world.keys.make(keys.KeyType.EC_P256))
    assert world.keys.makes_such(authority)
    assert not world.keys.makes_such(replace(authority, key_source=KeySource.VAULT, key_ref="pki:leaves/citadel"))
    assert not world.keys.makes_such(replace(authority, key_source=KeySource.FILES, key_ref=""))


# --- several places


async def test_old_keys_are_used_where_they_are_and_new_ones_are_made_where_it_is_wanted(tmp_path: Path) -> None:
    kek = LocalKek(os.urandom(32))
    with running("double", tmp_path) as vault:
        mount, session = vault.mount("transit"), vault.session()
        async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:
            here = SealedKeys(Keyring(store.authorities, kek))
            elsewhere = VaultKeys(session, SystemClock(), transit=mount)
            world = World(elsewhere, store, lambda: elsewhere)
            authority = await written_down(world, await elsewhere.make(keys.KeyType.EC_P256))
            back = KeyPlaces(here, elsewhere, new=KeySource.SEALED)
            assert (await back.make(keys.KeyType.EC_P256)).source is KeySource.SEALED
            await signer_of(await back.signer(authority)).sign(leaf(authority))
            with pytest.raises(FailedPrecondition, match="no Vault is configured"):
                await KeyPlaces(here, None, new=KeySource.SEALED).signer(authority)
        await session.close()
