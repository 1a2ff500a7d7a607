"""The keys and certificates held for workloads: made on demand, renewed at half of their life, kept in memory only."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol

import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, Unavailable
from citadel.held import HeldBundle, HeldIdentity
from citadel.spiffe import TrustDomain
from citadel.workload.keys import WorkloadKeys
from citadel.workload.obtaining import Obtaining
from citadel.workload.outage import Outage, OutageLog
from citadel.workload.ports import Unmetered, WorkloadMeter
from citadel.workload.renewal import Moment, Renewal
from citadel.workload.upstream import AssignedEntry, EntryUpdate, Reissue, Upstream

_BATCHES_AT_ONCE = 4  # so that one slow answer does not hold up everybody, and a crowd does not come all at once
_AGAIN = timedelta(seconds=1)
_LOOK = timedelta(seconds=1)  # wall clocks jump, and machines sleep
log = structlog.get_logger("citadel.workload")


class Listener(Protocol):
    """Told after something changed. Calls are synchronous and must be quick."""

    def uses(self, entry_id: str) -> bool:
        """Whether somebody uses this entry's identity now. One that nobody uses is not renewed."""

    def entries_changed(self, before: Mapping[str, AssignedEntry], entry_ids: Collection[str]) -> None:
        """These entries are new, changed, or gone from `Identities.entries`; `before` has those that were there."""

    def identity_changed(self, entry_id: str) -> None: ...

    def bundles_changed(self) -> None: ...


@dataclass(eq=False)
class _Held:
    """An entry that somebody uses, with what is held for it."""

    entry: AssignedEntry
    renewal: Renewal = field(default_factory=Renewal)
    identity: HeldIdentity | None = None
    last_error: str = ""
    away: bool = False  # the last time, nobody could be asked
    expiry_told: bool = False


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """For `status`: what is held, until when it lasts, when it is renewed, and what went wrong last."""

    entry_id: str
    spiffe_id: str
    not_after: datetime | None
    renew_at: datetime | None
    last_error: str


class Identities:
    """Holds identities for the entries that are in use. Run `run` as long as it lives.

    While the server is away it goes on with what it has; `outage` says how long that lasts.
    """

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        *,
        keys: WorkloadKeys | None = None,
        meter: WorkloadMeter | None = None,
        jitter: random.Random | None = None,
        look: timedelta = _LOOK,
    ) -> None:
        """`look`: how often the clock is compared with what is held, at the least."""
        self._upstream = upstream
        self._clock = clock
        self._obtaining = Obtaining(upstream, clock, keys or WorkloadKeys())
        self._meter = meter or Unmetered()
        self._random = jitter or random.SystemRandom()
        self._look_seconds = look.total_seconds()
        self._look_at = 0.0
        self._held: dict[str, _Held] = {}
        self._due: dict[str, None] = {}
        self._first: dict[str, None] = {}  # somebody waits for these: they go before renewals
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_BATCHES_AT_ONCE)
        self._outage = OutageLog(clock)
        self._listeners: list[Listener] = []
        self._reissue = Reissue(frozenset(), 1.0)
        self.entries: dict[str, AssignedEntry] = {}
        self.told = False
        """Whether the server has said yet which entries there are."""
        self.bundles: dict[TrustDomain, HeldBundle] = {}

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def identity(self, entry_id: str) -> HeldIdentity | None:
        """What is held for an entry now; asks for it if nobody did yet."""
        held = self._held.get(entry_id)
        if held is None and entry_id in self.entries:
            held = self._held[entry_id] = _Held(self.entries[entry_id])
            self._first[entry_id] = None
            self._wake.set()
        return held.identity if held else None

    def status(self) -> list[IdentityStatus]:
        return [
            IdentityStatus(
                held.entry.id,
                held.entry.spiffe_id.uri,
                held.identity.not_after if held.identity else None,
                held.renewal.renew_at,
                held.last_error,
            )
            for held in self._held.values()
        ]

    def outage(self) -> Outage | None:
        """While no certificates are to be had: since when, why, and until when what is held lasts."""
        return self._outage.now([held.identity.not_after for held in self._held.values() if held.identity])

    async def run(self) -> None:
        """Follow the server's entries and bundles, and renew, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_entries())
            group.create_task(self._follow_bundles())
            group.create_task(self._follow_reissue())
            group.create_task(self._renew())

    async def _follow_entries(self) -> None:
        async with self._upstream.entries() as updates:
            async for update in updates:
                self._take(update)

    def _take(self, update: EntryUpdate) -> None:
        """Costs what changed, not what there is."""
        self.told = True
        gone = self.entries.keys() - {e.id for e in update.changed} if update.whole else update.gone
        before: dict[str, AssignedEntry] = {}
        touched: set[str] = set()
        for entry in update.changed:
            old = self.entries.get(entry.id)
            if old is not None:
                before[entry.id] = old
            if old != entry:
                self.entries[entry.id] = entry
                touched.add(entry.id)
        for entry_id in gone:
            if (present := self.entries.pop(entry_id, None)) is not None:
                before[entry_id] = present
                touched.add(entry_id)
        for entry_id in touched:
            if (held := self._held.get(entry_id)) is not None:
                self._entry_changed(held)
        if touched:
            for listener in self._listeners:
                listener.entries_changed(before, touched)

    def _entry_changed(self, held: _Held) -> None:
        entry = self.entries.get(held.entry.id)
        if entry is None:  # what streams hold they keep until it expires; nothing is renewed
            self._drop(held.entry.id)
            return
        before, held.entry = held.entry, entry
        if _certified(before) != _certified(entry):
            held.renewal.changed()
            self._look_at = 0.0
            self._wake.set()
        elif held.identity is not None and held.identity.hint != entry.hint:
            held.identity = replace(held.identity, hint=entry.hint)

    async def _follow_bundles(self) -> None:
        async with self._upstream.bundles() as changes:
            async for bundles in changes:
                new = {
                    name: HeldBundle(name, bundle.roots, bundle.sequence, bundle.crls)
                    for name, bundle in bundles.items()
                    if bundle.roots  # an empty bundle is never passed on: with it an Envoy would verify nobody
                }
                self.bundles = {n: self.bundles[n] if self.bundles.get(n) == b else b for n, b in new.items()}
                for listener in self._listeners:
                    listener.bundles_changed()

    async def _follow_reissue(self) -> None:
        async with self._upstream.reissue() as directives:
            async for directive in directives:
                new, self._reissue = directive.leave - self._reissue.leave, directive
                self._spread([held for held in self._held.values() if held.identity and held.identity.authority in new])

    def _spread(self, held: list[_Held]) -> None:
        """Replace these as fast as the server allows, the soonest to run out first."""
        now = self._clock.now()
        for number, one in enumerate(sorted(held, key=_runs_out)):
            seconds = (number + self._random.random()) / self._reissue.per_second
            one.renewal.bring_forward(now + timedelta(seconds=seconds))
        self._look_at = 0.0
        self._wake.set()

    async def _renew(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                self._look()
                while self._first or self._due:
                    await self._slots.acquire()
                    group.create_task(self._obtain(self._next_batch()))
                await self._pause()

    async def _pause(self) -> None:
        """Until something is to be asked for, or the clock is to be looked at."""
        try:
            async with asyncio.timeout_at(self._look_at):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _look(self) -> None:
        """Compare what is held with the clock, if it is time to."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._look_at:
            return
        now = Moment.of(self._clock)
        self._look_at = loop.time() + self._look_seconds
        due = []
        for held in list(self._held.values()):
            left = held.renewal.seconds_left(now)
            if left > 0:
                self._look_again_in(left)
            elif any(listener.uses(held.entry.id) for listener in self._listeners):
                due.append(held)
            else:
                self._drop(held.entry.id)
            if held.identity is not None:
                self._tell_expiry(held, now)
        due.sort(key=_runs_out)
        self._due |= dict.fromkeys(held.entry.id for held in due)
        self._report()

    def _look_again_in(self, seconds: float) -> None:
        self._look_at = min(self._look_at, asyncio.get_running_loop().time() + max(seconds, 0.01))

    def _report(self) -> None:
        ends = [held.identity.not_after for held in self._held.values() if held.identity]
        self._meter.identities(len(ends), min(ends, default=None))
        if not any(held.away for held in self._held.values()):
            self._outage.over()
        self._outage.remind(self.outage())

    def _tell_expiry(self, held: _Held, now: Moment) -> None:
        assert held.identity is not None
        expired = held.identity.not_after <= now.wall
        if expired and not held.expiry_told:
            log.error("a certificate has run out and could not be renewed", entry=held.entry.id, error=held.last_error)
        held.expiry_told = expired

    def _drop(self, entry_id: str) -> None:
        self._held.pop(entry_id, None)
        self._first.pop(entry_id, None)
        self._due.pop(entry_id, None)

    def _next_batch(self) -> list[_Held]:
        """Those that somebody waits for go first."""
        batch = [self._held[entry_id] for entry_id in islice((self._first | self._due), self._obtaining.batch)]
        for held in batch:
            self._first.pop(held.entry.id, None)
            self._due.pop(held.entry.id, None)
            held.renewal.asked()
        return batch

    async def _obtain(self, batch: Sequence[_Held]) -> None:
        try:
            entries = [held.entry for held in batch]
            outcomes = await self._obtaining.obtain(entries)
            for held, entry, outcome in zip(batch, entries, outcomes, strict=True):
                if self._held.get(entry.id) is held:  # else it was deleted meanwhile
                    self._settle(held, outcome)
        finally:
            self._slots.release()
            now = Moment.of(self._clock)
            self._look_again_in(min(held.renewal.seconds_left(now) for held in batch))
            self._wake.set()

    def _settle(self, held: _Held, outcome: HeldIdentity | CitadelError) -> None:
        now = Moment.of(self._clock)
        held.away = isinstance(outcome, Unavailable)
        if isinstance(outcome, CitadelError):
            self._meter.renewal("failed")
            held.renewal.failed(now, self._random.random())
            if held.away:
                self._outage.failed(outcome.message)
            elif held.last_error != outcome.message:
                log.warning("no certificate", entry=held.entry.id, error=outcome.message)
            held.last_error = outcome.message
            return
        held.last_error = ""
        if not held.renewal.obtained(now, outcome.not_after, self._random.random()):
            return
        self._meter.renewal("first" if held.identity is None else "renewed")
        held.identity = replace(outcome, hint=held.entry.hint)
        if outcome.authority in self._reissue.leave:  # signed while the authority changed
            held.renewal.bring_forward(now.wall + _AGAIN)
        for listener in self._listeners:
            listener.identity_changed(held.entry.id)


def _certified(entry: AssignedEntry) -> object:
    """What of an entry a certificate shows: if it changes, a new one is due."""
    return entry.spiffe_id, entry.x509_ttl, entry.dns_names


def _runs_out(held: _Held) -> float:
    """In order of this, renewals are asked for."""
    return held.identity.not_after.timestamp() if held.identity else 0.0
