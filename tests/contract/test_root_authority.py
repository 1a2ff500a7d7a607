"""The contract of ports.RootAuthority, over every implementation."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from citadel.ca import keys
from citadel.ca.certificates import parse, skid_of
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.ports import RootAuthority, RootState
from citadel.ca.roots import CacertsRoot, DiskRoot
from citadel.errors import FailedPrecondition, InternalFault, NotFound
from citadel.spiffe import TrustDomain
from citadel.store import Store
from citadel.vault import PkiMount, VaultRoot
from tests.support.cacerts import make_ca, plug
from tests.support.clock import ManualClock
from tests.support.vault import running

TD = TrustDomain("example.org")
WEEK = timedelta(days=7)


@dataclass
class World:
    """What stands around a root authority, and a way to make it anew, as a restart does."""

    store: Store
    clock: ManualClock
    restart: Callable[[], RootAuthority]
    makes_issuing: bool  # or brings it
    makes_root: bool  # or is given it


@pytest.fixture(params=["disk", "disk-rsa", "cacerts", "cacerts-deep", "cacerts-itself", "vault-double", "vault-bao"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = ManualClock(datetime.now(UTC))
    kek = LocalKek(os.urandom(32))
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:

        def disk() -> RootAuthority:
            ring = Keyring(store.authorities, kek)
            kind = keys.KeyType.RSA_2048 if request.param == "disk-rsa" else keys.KeyType.EC_P256
            return DiskRoot(
                store.authorities, ring, clock, TD, ttl=timedelta(days=3650), issuing_ttl=WEEK, key_type=kind
            )

        if request.param.startswith("disk"):
            yield World(store, clock, disk, True, True)
            return
        if request.param.startswith("vault"):
            with running(request.param.removeprefix("vault-"), tmp_path) as vault:
                mount = vault.mount("pki")
                issuer = vault.new_root(mount)
                session = vault.session()

                def remote() -> RootAuthority:
                    return VaultRoot(PkiMount(session, mount), issuer, TD, clock, issuing_ttl=WEEK)

                yield World(store, clock, remote, True, False)
                await session.close()
            return
        ca = make_ca("root")
        if request.param != "cacerts-itself":
            ca = make_ca("ca", make_ca("upper", ca) if request.param == "cacerts-deep" else ca)
        plug(tmp_path / "cacerts", ca)
        yield World(store, clock, lambda: CacertsRoot(tmp_path / "cacerts", TD, clock), False, False)


@pytest.fixture
def root(world: World) -> RootAuthority:
    return world.restart()


async def known(world: World, state: RootState) -> Authority:
    """The root as the store knows it once it was adopted."""
    for authority in await world.store.authorities.authorities():
        if authority.skid == state.skid:
            return authority
    now = world.clock.now()
    return Authority(
        state.skid, AuthorityKind.ROOT, AuthorityState.ACTIVE, TD, state.key_source, state.roots, state.skid, now, now
    )


async def test_its_first_root_is_the_one_that_issuing_cas_chain_to(root: RootAuthority) -> None:
    state = await root.load()
    assert skid_of(parse(state.roots[0].der)) == state.skid
    for certificate in state.roots:
        read = parse(certificate.der)
        read.verify_directly_issued_by(read)
        assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


async def test_loading_again_also_after_a_restart_gives_the_same(world: World, root: RootAuthority) -> None:
    first = await root.load()
    for again in (root, world.restart()):
        state = await again.load()
        assert (state.roots, state.skid, state.version) == (first.roots, first.skid, first.version)
        assert (state.issuing and state.issuing.skid) == (first.issuing and first.issuing.skid)


async def test_loading_puts_nothing_into_force(world: World, root: RootAuthority) -> None:
    await root.load()
    assert await world.store.authorities.bundle(TD) is None
    states = {a.state for a in await world.store.authorities.authorities()}
    assert states <= {AuthorityState.PREPARED}


async def test_a_root_that_it_makes_is_durable_with_its_key_and_one_that_it_is_given_needs_none(
    world: World, root: RootAuthority
) -> None:
    state = await root.load()
    if world.makes_root:
        assert (await world.store.authorities.sealed_key(state.skid)).ciphertext
    else:
        with pytest.raises(NotFound):
            await world.store.authorities.sealed_key(state.skid)


async def test_it_signs_an_issuing_ca_or_brings_one(world: World, root: RootAuthority) -> None:
    state = await root.load()
    assert (state.issuing is None) is world.makes_issuing
    key = keys.generate()
    if state.issuing is not None:
        line = [parse(state.issuing.certificate.der), *map(parse, state.issuing.chain), parse(state.roots[0].der)]
        assert state.issuing.private_key.public_key() == line[0].public_key()
        with pytest.raises(FailedPrecondition, match="is plugged in") as caught:
            await root.sign_issuing_ca(await known(world, state), key)
        assert "put a new ca-cert.pem and ca-key.pem into" in caught.value.sentence()
    else:
        grant = await root.sign_issuing_ca(await known(world, state), key)
        assert grant.root_skid == state.skid
        line = [parse(grant.certificate.der), *map(parse, grant.chain), parse(state.roots[0].der)]
        assert line[0].public_key() == key.public_key()
        assert line[0].extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    for below, above in itertools.pairwise(line):
        below.verify_directly_issued_by(above)
        assert above.not_valid_before_utc <= below.not_valid_before_utc
        assert below.not_valid_after_utc <= above.not_valid_after_utc


async def test_what_it_shows_of_itself_holds_no_key(root: RootAuthority) -> None:
    state = await root.load()
    shown = repr(state) + repr(root)
    assert "PrivateKey" not in shown
    assert "PRIVATE" not in shown


# --- what only holds where the root's key is ours


ours = pytest.mark.parametrize("world", ["disk", "disk-rsa"], indirect=True)


@ours
async def test_an_issuing_ca_never_outlives_its_root(world: World, root: RootAuthority) -> None:
    state = await root.load()
    authority = await known(world, state)
    world.clock.advance(state.roots[0].not_after - world.clock.now() - timedelta(days=3))
    grant = await root.sign_issuing_ca(authority, keys.generate())
    assert grant.certificate.not_after == state.roots[0].not_after


@ours
async def test_near_its_end_it_signs_none_and_says_what_to_do(world: World, root: RootAuthority) -> None:
    state = await root.load()
    authority = await known(world, state)
    for before_the_end in (timedelta(hours=1), timedelta(0), timedelta(days=-1)):
        world.clock.jump(state.roots[0].not_after - before_the_end - world.clock.now())
        with pytest.raises(FailedPrecondition, match="too soon for another issuing CA") as caught:
            await root.sign_issuing_ca(authority, keys.generate())
        assert "replace the root" in caught.value.sentence()


@ours
async def test_it_signs_only_under_a_root_whose_key_it_has(world: World, root: RootAuthority) -> None:
    authority = await known(world, await root.load())
    stranger = make_ca("elsewhere")
    foreign = replace(authority, key_source=KeySource.NONE)
    with pytest.raises(FailedPrecondition, match="was not made by us"):
        await root.sign_issuing_ca(foreign, keys.generate())
    swapped = replace(authority, certificates=(replace(authority.certificate, der=stranger.der),))
    with pytest.raises(InternalFault, match="is not the key of its certificate"):
        await root.sign_issuing_ca(swapped, keys.generate())
