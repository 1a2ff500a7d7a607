"""Rotations, each in a process of its own, from a first start to its end, as fast as a clock that we move allows.

`Drives` starts one process that imports everything, and forks off each life: a test kills one at any failpoint, and has
the next go on with whatever it left. A life costs a fifth of a second, most of it the database's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from citadel import failpoints
from citadel.api.holdings import Holdings
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import AuthorityKind, AuthorityState, Skid
from citadel.ca.records import Records
from citadel.ca.roots import DiskRoot, IssuingCas, RootMakers
from citadel.ca.rotation import Phase, Plan, RootKind
from citadel.ca.rotation.brought import BroughtRoots, How
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.cross_signing import CrossSigner
from citadel.ca.rotation.hooks import Checked, Checks, Question, Verdict
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.signers import SealedKeys
from citadel.store import Store
from citadel.workload.upstream import AckKind, AckReport
from tests.support.cacerts import DAY, certified, make_ca
from tests.support.clock import ManualClock
from tests.support.rotating import DOMAIN, POLICY

_MOST = 60
LEAF = timedelta(hours=1)
NODE = "spiffe://example.org/spire/agent/local"
_OPERATOR = Wish("uid:0", "drill")
_BACK = timedelta(minutes=3)  # how far the clock is set back
#: Roots from outside, valid by any clock; they are the same in each life.
OFFLINE = make_ca("offline", begins=-9999 * DAY, ends=9999 * DAY)
HANDED_IN = make_ca("handed in", begins=-9999 * DAY, ends=9999 * DAY)
_BEGUN, _DAY = 12.0, 24.0  # hours


class _NoAtFirst:
    """A hook that says no until that is written down."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, question: Question) -> Verdict:
        held = question.step != Checked.ACTIVATE or any(p.hold for p in await self._store.rotation.plans())
        return Verdict(held, "" if held else "canary is red")


class Drive:
    """What a drill does is one of its methods. Each goes on with whatever it finds."""

    def __init__(self, store: Store, kek: LocalKek, clock: ManualClock, drill: str = "") -> None:
        self.store, self.clock, self.domain = store, clock, DOMAIN
        self.ring = ring = Keyring(store.authorities, kek)
        week = timedelta(days=7)
        root = DiskRoot(store.authorities, ring, clock, DOMAIN, ttl=timedelta(days=3650), issuing_ttl=week)
        self.authorities = Authorities(store.authorities, ring, root, clock, DOMAIN, AuthorityPolicy(week, LEAF))
        issuing = IssuingCas(root, SealedKeys(ring), KeyType.EC_P256, clock)
        self.makers = RootMakers(root, issuing, store.authorities, clock, DOMAIN)
        cross = CrossSigner(store.authorities, ring, clock, DOMAIN)
        plugged = drill == "adopted"
        self.rotations = Rotations(
            store.rotation,
            store.authorities,
            Holdings(store.clients, DOMAIN),
            self.makers,
            clock,
            DOMAIN,
            replace(POLICY, plugged_by_itself=plugged),
            longest_leaf=LEAF,
            changed=self.authorities.refresh,
            kind=RootKind.CACERTS if plugged else RootKind.DISK,
            checks=Checks([_NoAtFirst(store)] if drill == "held" else (), clock, again=1.0),
            cross=cross,
        )
        self.brought = BroughtRoots(self.rotations, store.authorities, ring, clock, DOMAIN, KeyType.EC_P256, cross)

    async def acknowledge(self, client: str = "cart") -> None:
        """One client takes the bundle and a leaf as they are."""
        bundle = await self.store.authorities.bundle(self.domain)
        assert bundle is not None
        now, signer = self.clock.now(), self.authorities.current().authority.skid
        ack = AckReport(now, f"{client}@uid:1/pid:1.1", "1", AckKind.ACK, "ROOTCA", "t", "v", sequence=bundle.sequence)
        leaf = AckReport(
            now,
            ack.client,
            "1",
            AckKind.ACK,
            "default",
            "t",
            "v",
            spiffe_id=f"spiffe://example.org/{client}",
            serial="1",
            authority=signer.hex,
            not_after=now + LEAF,
        )
        await self.store.clients.record(NODE, [ack, leaf])

    # --- drills

    async def begun(self) -> None:
        """A first start, with one client."""
        await self.acknowledge()

    async def whole(self) -> None:
        """A rotation to its end."""
        await self._prepared()
        await self._to_its_end()

    async def back(self) -> None:
        """One that is taken back once the new root signs."""
        await self._prepared()
        await self._to_its_end(lambda plan: plan.phase is Phase.RETIRING)
        if not any(p.rolled_back or p.phase is Phase.DONE for p in await self.store.rotation.plans()):
            await self.rotations.rollback(_OPERATOR)
        await self._to_its_end()

    async def given_up(self) -> None:
        """One that is abandoned before the new root signs."""
        await self._prepared()
        if any(p.is_open for p in await self.store.rotation.plans()):
            await self.rotations.abandon(_OPERATOR)

    async def emergency(self) -> None:
        """The root in force is tainted."""
        if not await self.store.rotation.plans():
            await self.rotations.taint(self._root, _OPERATOR, unasked=True)
        await self._to_its_end()

    async def tainted_under_way(self) -> None:
        """The root in force is tainted while another one is being distributed."""
        plan = await self._prepared()
        if plan.phase is Phase.DISTRIBUTING and not plan.emergency:
            await self.rotations.taint(plan.outgoing, _OPERATOR, unasked=True)
        await self._to_its_end()

    async def tainted_late(self) -> None:
        """The old root is tainted when it signs no more."""
        await self._prepared()
        await self._to_its_end(lambda plan: plan.phase is Phase.RETIRING)
        plan = await self._plan()
        if plan.is_open and not plan.emergency:
            await self.rotations.taint(plan.outgoing, _OPERATOR)
        await self._to_its_end()

    async def excused(self) -> None:
        """A client that is silent from the beginning."""
        if not await self.store.rotation.plans():
            await self.acknowledge("silent")
        await self._prepared()
        await self._to_its_end(pause=timedelta(minutes=2))

    async def set_back(self) -> None:
        """The clock is set back while the new root is distributed. Who goes on finds it so."""
        if not await self.store.rotation.plans():
            await self._prepared()
            self.clock.jump(-_BACK)
        await self._to_its_end()

    async def held(self) -> None:
        """A hook does not let it activate at first."""
        await self._prepared()
        await self._to_its_end()

    async def cross_signed(self) -> None:
        """The root in force certifies the new one."""
        if not await self.store.rotation.plans():
            await self.rotations.prepare(_OPERATOR, cross_sign=True)
        await self._to_its_end()

    async def certified_tainted(self) -> None:
        """The new root is tainted, which the root in force certified: that one is replaced too."""
        if not await self.store.rotation.plans():
            await self.rotations.prepare(_OPERATOR, cross_sign=True)
        plans = await self.store.rotation.plans()
        if len(plans) == 1:
            await self.rotations.taint(plans[0].incoming, _OPERATOR, unasked=True)
        await self._to_its_end()

    async def adopted(self) -> None:
        """Another root came into force without a rotation, as one does that was plugged in and trusted from the first:
        the one before retires, and has no plan."""
        records = Records(self.store.authorities, self.clock, DOMAIN, refresh_hint=300)
        old = (await records.read()).active(AuthorityKind.ROOT)
        assert old is not None
        if len((await records.read()).roots(*AuthorityState)) == 1:
            new = await self.makers.make(RootKind.DISK)
            under = await self.makers.make_issuing(new)
            await records.move(new, AuthorityState.DISTRIBUTING)
            await records.publish()
            trusted = (await records.read()).find(new.skid)
            signer = (await records.read()).signer
            assert trusted is not None
            assert signer is not None
            await records.move(trusted, AuthorityState.ACTIVE, retire=old.skid)
            under_it = replace(under.authority, state=AuthorityState.ACTIVE)
            await records.add(under_it, under.key, "ca.activate", retire=signer.skid)
            await self.authorities.refresh()
        await self._to_its_end()

    async def issuing_rotated(self) -> None:
        """Another issuing CA signs."""
        if self._issuing_count(await self.authorities.all()) == 1:
            await self.rotations.rotate_issuing(_OPERATOR)

    async def issuing_tainted(self) -> None:
        """The key of the issuing CA is stolen: called again, it does what is left."""
        tainted = [a for a in await self.authorities.all() if a.state is AuthorityState.TAINTED]
        stolen = tainted[0].skid if tainted else self.authorities.current().authority.skid
        if not await self.store.rotation.plans():
            await self.rotations.taint_issuing(stolen, _OPERATOR, unasked=True)
        await self._to_its_end()

    async def offline(self) -> None:
        """A root that is offline signs our issuing CA."""
        if not await self.store.rotation.plans():
            request = await self.brought.request(_OPERATOR)
            await self.brought.accept(certified(request.pem, OFFLINE, self.clock.now()), _OPERATOR, How())
        await self._to_its_end()

    async def handed_in(self) -> None:
        """A root is handed in with its key."""
        if not await self.store.rotation.plans():
            await self.brought.hand_in(HANDED_IN.pem, HANDED_IN.key_pem, _OPERATOR, How())
        await self._to_its_end()

    # --- what they share

    @property
    def _root(self) -> Skid:
        return self.authorities.current().authority.root_skid

    async def _plan(self) -> Plan:
        (plan,) = await self.store.rotation.plans()
        return plan

    async def _prepared(self) -> Plan:
        if not await self.store.rotation.plans():
            await self.rotations.prepare(_OPERATOR)
        return await self._plan()

    @staticmethod
    def _issuing_count(known: list[Any]) -> int:
        return sum(a.kind is AuthorityKind.ISSUING for a in known)

    async def _to_its_end(
        self,
        enough: Callable[[Plan], bool] = lambda plan: not plan.is_open,
        pause: timedelta = timedelta(seconds=5),
    ) -> None:
        for _ in range(_MOST):
            await self.acknowledge()
            await self.rotations.run_due()
            plans = await self.store.rotation.plans()
            if plans and all(enough(p) or not p.is_open for p in plans):
                return
            self.clock.advance(pause)
        raise AssertionError(f"still open: {plans}")

    async def found(self) -> dict[str, Any]:
        """What must be the same, wherever it was killed."""
        known = await self.authorities.all()
        bundle = await self.authorities.bundle()
        active = [a for a in known if a.state is AuthorityState.ACTIVE]
        trusted = [a.certificate.der for a in active if a.kind is AuthorityKind.ROOT]
        plans = await self.store.rotation.plans()
        return {
            "authorities": sorted(f"{a.kind} {a.state}" for a in known),
            "bundle": bundle.sequence,
            "trusts only the active root": list(bundle.roots) == trusted,
            "signs under it": self._root.hex == next(a.skid.hex for a in active if a.kind is AuthorityKind.ROOT),
            "plans": [[str(p.phase), p.rolled_back, p.emergency, len(p.excused)] for p in plans],
        }


async def _live(database: str, kek: str, drill: str, hours: float) -> dict[str, Any]:
    clock = ManualClock()
    clock.advance(timedelta(hours=hours))
    async with Store.open(f"sqlite:///{database}", writer="one") as store:
        drive = Drive(store, LocalKek(bytes.fromhex(kek)), clock, drill)
        await drive.authorities.ensure()
        await getattr(drive, drill)()
        return await drive.found()


# --- processes

_DEFECT = 70


class Drives:
    """Lives on copies of one database, in which a first start lies behind."""

    def __init__(self, home: Path, kek: str) -> None:
        self._begun = home / "begun"
        self._kek = kek
        self._home = home
        self._count = 0
        command = [sys.executable, "-m", "tests.support.rotation_driver"]
        self._forks = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Drives:
        self.live(self._begun / "c.db", "begun", _BEGUN)
        return self

    @staticmethod
    def after(drill: str) -> float:
        """When the next life begins: a day later; but a clock that was set back stays so."""
        return _DAY - _BACK / timedelta(hours=1) if drill == "set_back" else 2 * _DAY

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._forks.communicate(timeout=10)  # the end of its input ends it

    def database(self) -> Path:
        """Another copy of it."""
        self._count += 1
        folder = self._home / str(self._count)
        shutil.copytree(self._begun, folder)
        return folder / "c.db"

    def live(self, database: Path, drill: str, hours: float = _DAY) -> dict[str, Any]:
        """A life that is left in peace; what it found at its end."""
        status, answer = self._ask(database, drill, hours, "")
        assert status == 0, answer
        return dict(json.loads(answer))

    def die(self, database: Path, drill: str, failpoint: str, hours: float = _DAY) -> int:
        """The signal of which it died. Raises AssertionError if it did not."""
        status, answer = self._ask(database, drill, hours, failpoint)
        assert status < 0, f"it passed no {failpoint}, and ended with {status}: {answer}"
        return -status

    def _ask(self, database: Path, drill: str, hours: float, failpoint: str) -> tuple[int, str]:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(json.dumps([str(database), self._kek, drill, hours, failpoint]) + "\n")
        self._forks.stdin.flush()
        status, answer = json.loads(self._forks.stdout.readline())
        return status, answer


def _fork(database: str, kek: str, drill: str, hours: float, failpoint: str) -> tuple[int, str]:
    reading, writing = os.pipe()
    child = os.fork()  # there are no threads yet in this process: nothing is held that would never be let go
    if child == 0:
        os.close(reading)
        os.dup2(2, 1)  # what is logged is no answer
        failpoints._ARMED = failpoint
        try:
            answer, status = json.dumps(asyncio.run(_live(database, kek, drill, hours))), 0
        except BaseException:  # told to whoever asked: this process ends here in any case
            answer, status = traceback.format_exc(), _DEFECT
        os.write(writing, answer.encode()[:60_000])  # less than a pipe holds
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)
