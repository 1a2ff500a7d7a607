"""The same faults in all three modes, over the contract double and a real OpenBao: what a user is told, that nothing is
half-done, and that it is over by itself."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.ca.model import Outcome
from citadel.clock import SystemClock
from citadel.errors import CitadelError, FailedPrecondition, Unauthenticated, Unavailable
from citadel.vault import session_needs
from tests.support.certificates import Ca
from tests.support.vault import KINDS, running, running_tls
from tests.support.vault_modes import NAMES, PROFILE, Mode, Modes, modes


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Modes]:
    with running(request.param, tmp_path) as vault:
        async with modes(vault) as made:
            yield made


async def told(mode: Mode) -> CitadelError:
    with pytest.raises(CitadelError) as caught:
        await mode.ask()
    return caught.value


# --- faults behind our back


async def test_a_token_that_was_revoked_is_replaced_and_nobody_sees_it(world: Modes) -> None:
    for name in NAMES:
        assert world.session._held is not None
        world.vault.call("POST", "auth/token/revoke", {"token": world.session._held.token})
        world.session._logged_in_at = float("-inf")  # the login was long ago
        await world.by_name[name].ask()


async def test_a_policy_that_was_narrowed_is_told_with_what_mends_it(world: Modes) -> None:
    world.permit(session_needs())
    for name in NAMES:
        error = await told(world.by_name[name])
        assert "does not permit us" in error.sentence()
        assert "citadel vault check" in error.sentence()
        assert name == "root" or isinstance(error, Unavailable)  # whoever asks for a leaf can do nothing about it
        assert world.by_name[name].outcomes().keys() <= {Outcome.FAILED}
    world.permit(world.needs)
    for name in NAMES:
        await world.by_name[name].asks_until_it_is()


async def test_a_mount_that_was_disabled_is_told(world: Modes) -> None:
    mounts = {"root": world.root_mount, "pki": world.leaf_mount, "transit": world.transit_mount}
    for name in NAMES:
        world.vault.call("DELETE", f"sys/mounts/{mounts[name]}")
        error = await told(world.by_name[name])
        assert f"has nothing at {mounts[name]}" in error.message
        assert "compare mount, issuer" in error.sentence()
        assert world.by_name[name].outcomes().keys() <= {Outcome.FAILED}


async def test_what_signs_and_was_deleted_is_told_and_nothing_else_takes_its_place(world: Modes) -> None:
    world.vault.call("DELETE", f"{world.root_mount}/issuer/{world.root_id}")
    world.vault.call("DELETE", f"{world.leaf_mount}/issuer/{world.leaf_id}")
    world.vault.call("POST", f"{world.transit_mount}/keys/{world.key}/config", {"deletion_allowed": True})
    world.vault.call("DELETE", f"{world.transit_mount}/keys/{world.key}")
    for name in ("root", "pki"):
        error = await told(world.by_name[name])
        assert "has no such issuer" in error.message
        assert "pin one that is there" in error.sentence()
    error = await told(world.by_name["transit"])
    assert "citadel ca rotate" in error.sentence()
    for name in NAMES:
        assert world.by_name[name].outcomes().keys() <= {Outcome.FAILED}


async def test_a_role_that_was_deleted_or_allows_less_is_told(world: Modes) -> None:
    world.vault.call("POST", f"{world.leaf_mount}/roles/citadel", {
        **PROFILE.role(), "allowed_uri_sans": ["spiffe://other/*"],
    })  # fmt: skip
    error = await told(world.by_name["pki"])
    assert "not valid for this role" in error.message
    world.vault.call("DELETE", f"{world.leaf_mount}/roles/citadel")
    error = await told(world.by_name["pki"])
    assert "unknown role: citadel" in error.message
    assert isinstance(error, Unavailable)


@dataclass(frozen=True)
class OffClock:
    """Ours, while Vault's is right."""

    off: timedelta

    def now(self) -> datetime:
        return SystemClock().now() + self.off

    def monotonic(self) -> float:
        return SystemClock().monotonic()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_valid_yet_by_our_clock_is_told_and_not_used(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path) as vault:
        async with modes(vault, OffClock(timedelta(minutes=-10))) as world:
            for name in NAMES:
                error = await told(world.by_name[name])
                assert "is not valid before" in error.message
                assert isinstance(error, FailedPrecondition if name == "root" else Unavailable)
        async with modes(vault, OffClock(timedelta(minutes=10))) as world:  # what we hold ends sooner, that is all
            for name in NAMES:
                await world.by_name[name].ask()


# --- namespaces: OpenBao has them since 2.3


@pytest.mark.parametrize("kind", KINDS)
async def test_in_a_namespace_all_is_asked_for_there_the_login_too(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path) as vault:
        team = vault.in_namespace(f"team-{secrets.token_hex(4)}")
        async with modes(team) as world:  # what is not asked for there, is nowhere
            for name in NAMES:
                await world.by_name[name].ask()
            await world.session._look_at_server()  # it speaks for the whole server, so it is asked for in none
            server = world.session.status().server
            assert server is not None
            assert not server.sealed
            sign_in = world.session._access.sign_in
            nowhere = replace(team, namespace="nowhere").session(sign_in)
            elsewhere = vault.session(sign_in)
            for wrong, why in ((nowhere, "no such namespace.*correct vault.namespace"), (elsewhere, "cannot sign in")):
                with pytest.raises(Unauthenticated) as caught:
                    await wrong.call("get", "auth/token/lookup-self")
                assert re.search(why, caught.value.sentence())
                await wrong.close()


# --- a server that goes and comes, in the middle of signing


@pytest.mark.parametrize("kind", KINDS)
async def test_sealed_killed_and_restarted_in_the_middle_of_signing(kind: str, tmp_path: Path) -> None:
    with running_tls(kind, tmp_path, Ca("clients").certificate.public_bytes(Encoding.PEM)) as vault:
        async with modes(vault) as world:
            crowd = [Crowd(world.by_name[name]) for name in NAMES]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one.run()) for one in crowd]
                await every(crowd, lambda one: one.signed > 3)
                await asyncio.to_thread(vault.seal)
                await every(crowd, lambda one: one.saw("is sealed"))
                await asyncio.to_thread(vault.unseal)
                await again(crowd)
                await asyncio.to_thread(vault.kill)
                await every(crowd, lambda one: one.saw("cannot be reached"))
                await asyncio.to_thread(vault.start_again)
                await every(crowd, lambda one: one.saw("is sealed"))
                await asyncio.to_thread(vault.unseal)
                await again(crowd)
                for one in crowd:
                    one.ends = True
                await asyncio.wait(tasks)
            assert world.session.status().fault == ""
            for one in crowd:
                for error in one.errors:  # whoever asks for a leaf tries again after that time
                    assert isinstance(error, Unavailable)
                    assert error.retry_after
            for one in crowd[1:]:  # of leaves each is on record: issued, surely not, or nobody knows
                outcomes = one.mode.outcomes()
                assert outcomes.keys() <= {Outcome.ISSUED, Outcome.FAILED, Outcome.UNKNOWN}
                assert outcomes[Outcome.ISSUED] == one.signed
            assert Outcome.UNKNOWN not in crowd[2].mode.outcomes()  # a signature by transit is no certificate


class Crowd:
    """Asks over and over, four at once."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.signed = 0
        self.errors: list[CitadelError] = []
        self.ends = False

    async def run(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(4)))

    def saw(self, what: str) -> bool:
        """Since it was asked for last."""
        found = any(what in error.message for error in self.errors[self._seen :])
        if found:
            self._seen = len(self.errors)
        return found

    _seen = 0

    async def _one(self) -> None:
        while not self.ends:
            try:
                await self.mode.ask()
                self.signed += 1
            except CitadelError as error:
                self.errors.append(error)
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.02)


async def every(crowd: list[Crowd], holds: Callable[[Crowd], bool]) -> None:
    waiting = list(crowd)
    async with asyncio.timeout(30):
        while waiting := [one for one in waiting if not holds(one)]:
            await asyncio.sleep(0.05)


async def again(crowd: list[Crowd]) -> None:
    before = {id(one): one.signed for one in crowd}
    await every(crowd, lambda one: one.signed > before[id(one)])
