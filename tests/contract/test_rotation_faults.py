"""Disk full, or database gone, in the middle of each step of a rotation: nothing is half-done, and it goes on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel.ca.kek import LocalKek
from citadel.ca.model import (
    IN_BUNDLE,
    AuthorityKind,
    AuthorityState,
    IssuanceIntent,
    IssuanceOutcome,
    Outcome,
)
from citadel.ca.rotation import Phase
from citadel.ca.rotation.commands import Wish
from citadel.errors import CitadelError, FailedPrecondition, Unavailable
from citadel.spiffe import SpiffeId
from citadel.store import Store
from tests.support.clock import ManualClock
from tests.support.faults import READING, UNAUDITED, Faults
from tests.support.postgres import new_database
from tests.support.rotating import DOMAIN, POLICY
from tests.support.rotation_driver import LEAF, NODE, Drive
from tests.support.store import chain_is_whole, event

_MOST = 400
_A_DAY = timedelta(days=1)
_OPERATOR = Wish("uid:0", "drill")
_CART = SpiffeId.parse("spiffe://example.org/cart")
#: The transactions that each drill goes through, and that have to be seen to fail.
_STEPS = {
    "whole": {"root.prepare", "root.activate", "root.replaced", "root.remove", UNAUDITED, READING},
    "back": {"root.rollback"},
    "given_up": {"root.abandon"},
    "emergency": {"root.revoke"},
    "tainted_under_way": {"root.taint"},
    "tainted_late": {"root.taint"},
    "excused": {"root.excuse"},
    "set_back": {"root.redate"},
    "issuing_rotated": {"ca.rotate"},
    "issuing_tainted": {"ca.taint"},
    "offline": {"ca.request", "root.prepare"},
    "handed_in": {"root.prepare"},
    "cross_signed": {"root.cross-sign"},
    "held": {"root.hold"},
    "adopted": {"root.adopt"},
}


class Issuing(Drive):
    """One in which certificates are issued and put on record too."""

    async def acknowledge(self, client: str = "cart") -> None:
        now, serial = self.clock.now(), secrets.randbits(120)
        signer = self.authorities.current().authority.skid
        intent = IssuanceIntent(serial, _CART, client, signer, now, now + LEAF, (), "00", NODE, now)
        await self.store.issuance.intend(intent, event(at=now))
        await self.store.issuance.settle(IssuanceOutcome(serial, Outcome.ISSUED))
        await super().acknowledge(client)


@asynccontextmanager
async def begun(url: str, drill: str = "") -> AsyncIterator[Drive]:
    async with Store.open(url, writer="one") as store:
        drive = Issuing(store, LocalKek(secrets.token_bytes(32)), ManualClock(), drill)
        await drive.authorities.ensure()
        await drive.acknowledge()
        yield drive


async def state(store: Store) -> dict[str, Any]:
    """All that a rotation changes, as it is written down. Raises AssertionError if that contradicts itself."""
    known, plans = await store.authorities.authorities(), await store.rotation.plans()
    bundle = await store.authorities.bundle(DOMAIN)
    assert bundle is not None
    signing = sorted(str(a.kind) for a in known if a.state is AuthorityState.ACTIVE)
    assert signing == ["issuing", "root"]
    trusted = {a.certificate.der for a in known if a.kind is AuthorityKind.ROOT and a.state in IN_BUNDLE}
    assert trusted == set(bundle.roots)
    return {"authorities": known, "plans": plans, "bundle": bundle}


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db/citadel.db"
    return await new_database(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize(
    ("url", "drill"),
    [
        *(("sqlite", drill) for drill in _STEPS),
        pytest.param("postgresql", "whole", marks=pytest.mark.postgres),
    ],
    indirect=["url"],
)
async def test_at_each_statement_of_each_step(
    url: str, drill: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with begun(f"sqlite:///{tmp_path}/undisturbed/citadel.db", drill) as drive:
        await getattr(drive, drill)()
        undisturbed = await drive.found()
    async with begun(url, drill) as drive:
        faults = Faults(drive.store, monkeypatch, lambda: state(drive.store), _STEPS[drill])
        for _ in range(_MOST):
            try:
                await getattr(drive, drill)()
                break
            except CitadelError as error:
                said = error
            with faults.none():
                assert isinstance(said, Unavailable)
                assert said.mend
                assert "\n" not in said.sentence()
                await drive.authorities.refresh()  # as server.follow_authorities does
                if faults.where not in (READING, UNAUDITED):
                    assert (await state(drive.store) == faults.before) is not faults.answer_lost, faults.where
        else:
            raise AssertionError(f"it fails for ever: {said}")
        with faults.none():
            assert await drive.found() == undisturbed
            assert await chain_is_whole(drive.store, "one") > 0
        assert faults.met.keys() == _STEPS[drill]


async def test_a_clock_set_back_by_a_day_while_the_new_root_is_distributed(tmp_path: Path) -> None:
    async with begun(f"sqlite:///{tmp_path}/db/citadel.db") as drive:
        drive.clock.advance(2 * _A_DAY)
        await drive.rotations.prepare(_OPERATOR)
        drive.clock.jump(-_A_DAY)
        await drive.acknowledge()
        await drive.rotations.run_due()
        drive.clock.advance(timedelta(minutes=10))
        await drive.acknowledge()
        before = await state(drive.store)
        with pytest.raises(FailedPrecondition, match=r"not valid before .*: is this machine's clock right"):
            await drive.rotations.activate(_OPERATOR)
        with pytest.raises(FailedPrecondition, match=r"no issuing CA under the root .* can sign now") as refused:
            await drive.rotations.activate(replace(_OPERATOR, force=True))
        assert "check this machine's clock; or abandon" in refused.value.mend
        assert await drive.rotations.run_due() == []
        assert await state(drive.store) == before
        await drive.rotations.prepare(_OPERATOR, replace=True)  # the clock is right now, and was ahead before
        await drive._to_its_end()
        assert sorted(str(p.phase) for p in await drive.store.rotation.plans()) == ["abandoned", "done"]


@pytest.mark.parametrize("clock", ["was wrong before", "is wrong now"])
async def test_a_clock_set_back_by_a_day_while_the_old_root_retires(tmp_path: Path, clock: str) -> None:
    async with begun(f"sqlite:///{tmp_path}/db/citadel.db") as drive:
        drive.clock.advance(2 * _A_DAY)
        await drive.rotations.prepare(_OPERATOR)
        await drive._to_its_end(lambda plan: plan.phase is Phase.RETIRING)
        drive.clock.jump(-_A_DAY)
        with pytest.raises(Unavailable, match="is not valid before") as refused:
            await drive.acknowledge()
        assert "citadel root rollback" in refused.value.mend
        with pytest.raises(FailedPrecondition, match="is still needed"):
            await drive.rotations.remove((await drive._plan()).outgoing, _OPERATOR)
        await drive.rotations.run_due()
        if clock == "is wrong now":
            drive.clock.jump(_A_DAY)
        else:
            await drive.rotations.rollback(_OPERATOR)
        began = drive.clock.now()
        await drive._to_its_end()
        assert POLICY.session_life <= drive.clock.now() - began < timedelta(hours=1), "it waits anew, and not a day"
        plan = await drive._plan()
        assert (plan.phase, plan.rolled_back) == (Phase.DONE, clock == "was wrong before")
