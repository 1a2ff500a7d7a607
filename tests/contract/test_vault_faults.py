"""What goes wrong in Vault behind our back: each is told with what mends it, nothing is half-done, it ends by itself.

Sealed, hanging, cut connections and garbage: tests/contract/test_vault_session.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.ca import keys
from citadel.ca.certificates import parse
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.clock import SystemClock
from citadel.errors import CitadelError, FailedPrecondition, NotFound, PermissionDenied
from citadel.vault import PkiMount, Session, VaultRoot, hcl, pki_needs, session_needs
from tests.support.issuance import TRUST_DOMAIN
from tests.support.vault import KINDS, Vault, running


@dataclass
class World:
    vault: Vault
    session: Session
    mount: str
    issuer: str
    policy: str
    root: VaultRoot
    known: Authority
    operators: Session  # may do all

    def other_root(self, issuer: str) -> VaultRoot:
        mount = PkiMount(self.operators, self.mount)
        return VaultRoot(mount, issuer, TRUST_DOMAIN, SystemClock(), issuing_ttl=timedelta(days=1))

    async def signs(self) -> None:
        """Raises what it raises."""
        grant = await self.root.sign_issuing_ca(self.known, keys.generate())
        assert parse(grant.certificate.der).issuer == parse(self.known.certificate.der).subject

    async def signs_again(self) -> None:
        async with asyncio.timeout(20):
            while True:
                with suppress(CitadelError):
                    await self.signs()
                    return
                await asyncio.sleep(0.1)

    def permit(self, policy: str) -> None:
        self.vault.call("PUT", f"sys/policies/acl/{self.policy}", {"policy": policy})


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    with running(request.param, tmp_path) as vault:
        mount = vault.mount("pki")
        issuer = vault.new_root(mount)
        sign_in = vault.approle(hcl([*session_needs(), *pki_needs(mount, issuer)]), token_ttl="1h")
        role = vault.call("LIST", f"auth/{sign_in.mount}/role")["data"]["keys"][0]
        session = vault.session(sign_in)
        clock = SystemClock()
        root = VaultRoot(PkiMount(session, mount), issuer, TRUST_DOMAIN, clock, issuing_ttl=timedelta(days=1))
        operators = vault.session()
        yield World(vault, session, mount, issuer, role, root, await known(root), operators)
        await session.close()
        await operators.close()


async def test_a_policy_that_was_narrowed(world: World) -> None:
    await world.signs()
    world.permit(hcl(session_needs()))
    with pytest.raises(PermissionDenied, match="does not permit us") as caught:
        await world.signs()
    assert "citadel vault check" in caught.value.sentence()
    assert "does not permit us" in world.session.status().fault
    world.permit(hcl([*session_needs(), *pki_needs(world.mount, world.issuer)]))
    await world.signs_again()
    assert world.session.status().fault == ""


async def test_a_token_that_was_revoked(world: World) -> None:
    await world.signs()
    assert world.session._held is not None
    world.vault.call("POST", "auth/token/revoke", {"token": world.session._held.token})
    world.session._logged_in_at = float("-inf")  # the login was long ago
    await world.signs()


async def test_a_mount_that_was_disabled(world: World) -> None:
    world.vault.call("DELETE", f"sys/mounts/{world.mount}")
    with pytest.raises(NotFound, match="has nothing at") as caught:
        await world.signs()
    assert "compare mount, issuer" in caught.value.sentence()


async def test_an_issuer_that_was_deleted_and_another_that_took_its_name(world: World) -> None:
    world.vault.call("DELETE", f"{world.mount}/issuer/{world.issuer}")
    with pytest.raises(NotFound, match="unable to find PKI issuer"):
        await world.signs()
    world.vault.new_root(world.mount)
    by_name = world.other_root("mesh")
    with pytest.raises(FailedPrecondition, match=f"not to {world.known.skid}"):
        await by_name.sign_issuing_ca(world.known, keys.generate())


async def known(root: VaultRoot) -> Authority:
    state, now = await root.load(), SystemClock().now()
    active = AuthorityState.ACTIVE
    source = state.key_source
    return Authority(state.skid, AuthorityKind.ROOT, active, TRUST_DOMAIN, source, state.roots, state.skid, now, now)


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"key_type": "rsa", "key_bits": 2048}, True),
        ({"key_type": "ec", "key_bits": 384}, True),
        ({"key_type": "ed25519"}, False),
    ],
)
async def test_a_root_of_a_kind_of_key_that_fits_signs_and_another_is_refused(
    world: World, settings: dict[str, object], fits: bool
) -> None:
    root = world.other_root(world.vault.new_root(world.mount, "other", **settings))
    if fits:
        await root.sign_issuing_ca(await known(root), keys.generate())
        return
    with pytest.raises(FailedPrecondition, match="its key"):
        await root.load()


async def test_an_issuer_that_leaves_no_room_or_time(world: World) -> None:
    def root(name: str, **settings: object) -> VaultRoot:
        return world.other_root(world.vault.new_root(world.mount, name, **settings))

    with pytest.raises(FailedPrecondition, match="allows fewer than the 1 CAs"):
        await root("narrow", max_path_length=0).load()
    short = root("short", ttl="1h")
    ends = await known(short)
    with pytest.raises(FailedPrecondition, match="too soon for"):
        await short.sign_issuing_ca(ends, keys.generate())
