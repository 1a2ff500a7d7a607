"""A rotation of its own process, from a first start to its end, as fast as a clock that is an argument allows.

`python -m tests.support.rotation_driver DATABASE KEK WHAT HOURS`: goes on with whatever it finds, and prints what there
is when it is over. A test kills it at any failpoint, and starts it again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from citadel.api.holdings import Holdings
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import AuthorityKind, AuthorityState
from citadel.ca.roots import DiskRoot, DiskRootMaker
from citadel.ca.rotation import Phase
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.rotations import Rotations
from citadel.store import Store
from citadel.workload.upstream import AckKind, AckReport
from tests.support.clock import ManualClock
from tests.support.rotating import DOMAIN, POLICY

_MOST = 60
_NODE = "spiffe://example.org/spire/agent/local"
_OPERATOR = Wish("uid:0", "drill")


class Drive:
    def __init__(self, store: Store, kek: LocalKek, clock: ManualClock) -> None:
        self.store, self.clock, self.domain = store, clock, DOMAIN
        ring = Keyring(store.authorities, kek)
        week = timedelta(days=7)
        root = DiskRoot(store.authorities, ring, clock, DOMAIN, ttl=timedelta(days=3650), issuing_ttl=week)
        leaf = timedelta(hours=1)
        self.authorities = Authorities(store.authorities, ring, root, clock, DOMAIN, AuthorityPolicy(week, leaf))
        self.rotations = Rotations(
            store.rotation,
            store.authorities,
            Holdings(store.clients, DOMAIN),
            DiskRootMaker(root, ring, clock, KeyType.EC_P256),
            clock,
            DOMAIN,
            POLICY,
            longest_leaf=leaf,
            changed=self.authorities.refresh,
        )

    async def acknowledge(self) -> None:
        """One client takes the bundle and a leaf as they are."""
        bundle = await self.store.authorities.bundle(self.domain)
        assert bundle is not None
        now, signer = self.clock.now(), self.authorities.current().authority.skid
        ack = AckReport(now, "cart@uid:1/pid:1.1", "1", AckKind.ACK, "ROOTCA", "t", "v", sequence=bundle.sequence)
        leaf = AckReport(
            now,
            ack.client,
            "1",
            AckKind.ACK,
            "default",
            "t",
            "v",
            spiffe_id="spiffe://example.org/cart",
            serial="1",
            authority=signer.hex,
            not_after=now + timedelta(hours=1),
        )
        await self.store.clients.record(_NODE, [ack, leaf])

    async def whole(self) -> None:
        """A rotation to its end; begun, if none was."""
        if not await self.store.rotation.plans():
            await self.acknowledge()
            await self.rotations.prepare(_OPERATOR)
        await self._to_its_end()

    async def back(self) -> None:
        """A rotation that is taken back once the new root signs."""
        if not await self.store.rotation.plans():
            await self.acknowledge()
            await self.rotations.prepare(_OPERATOR)
        await self._to_its_end(lambda plan: plan.phase is Phase.RETIRING)
        if not any(p.rolled_back or p.phase is Phase.DONE for p in await self.store.rotation.plans()):
            await self.rotations.rollback(_OPERATOR)
        await self._to_its_end()

    async def emergency(self) -> None:
        """The root in force is tainted."""
        plans = await self.store.rotation.plans()
        if not plans:
            await self.acknowledge()
            await self.rotations.taint(self.authorities.current().authority.root_skid, _OPERATOR, unasked=True)
        await self._to_its_end()

    async def _to_its_end(self, enough: Callable[[Any], bool] = lambda plan: not plan.is_open) -> None:
        for _ in range(_MOST):
            await self.acknowledge()
            await self.rotations.run_due()
            plans = await self.store.rotation.plans()
            if plans and all(enough(p) or not p.is_open for p in plans):
                return
            self.clock.advance(timedelta(seconds=5))
        raise AssertionError(f"still open: {plans}")

    async def found(self) -> dict[str, Any]:
        """What must be the same, wherever it was killed."""
        known = await self.authorities.all()
        bundle = await self.authorities.bundle()
        active = [a for a in known if a.state is AuthorityState.ACTIVE]
        trusted = [a.certificate.der for a in active if a.kind is AuthorityKind.ROOT]
        return {
            "authorities": sorted(f"{a.kind} {a.state}" for a in known),
            "bundle": bundle.sequence,
            "trusts only the active root": list(bundle.roots) == trusted,
            "signs under it": self.authorities.current().authority.root_skid.hex
            == next(a.skid.hex for a in active if a.kind is AuthorityKind.ROOT),
            "plans": [[str(p.phase), p.rolled_back, p.emergency] for p in await self.store.rotation.plans()],
        }


async def main(database: str, kek: str, what: str, hours: str) -> None:
    clock = ManualClock()
    clock.advance(timedelta(hours=int(hours)))
    async with Store.open(f"sqlite:///{database}", writer="one") as store:
        drive = Drive(store, LocalKek(bytes.fromhex(kek)), clock)
        await drive.authorities.ensure()
        await {"whole": drive.whole, "back": drive.back, "emergency": drive.emergency}[what]()
        print(json.dumps(await drive.found()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
