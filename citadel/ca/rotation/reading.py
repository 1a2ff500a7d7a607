"""Reading the world as it is written down, with a clock that may have jumped."""

from __future__ import annotations

from datetime import timedelta

import structlog

from citadel.ca.ports import AuthorityStore
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.ports import ClientRecord, RotationStore
from citadel.ca.rotation.world import World
from citadel.clock import Clock
from citadel.spiffe import TrustDomain

log = structlog.get_logger("citadel.rotation")


class RunTime:
    """Since when our clock has run without a jump: what was timed before a jump is not to be relied upon."""

    def __init__(self, clock: Clock, skew: timedelta) -> None:
        self._clock = clock
        self._skew = skew.total_seconds()
        self.since = clock.now()
        self._off = clock.now().timestamp() - clock.monotonic()

    def look(self) -> None:
        now, off = self._clock.now(), self._clock.now().timestamp() - self._clock.monotonic()
        if abs(off - self._off) > self._skew or now < self.since:
            log.warning("the clock jumped; gates wait as after a start", seconds=round(off - self._off))
            self.since = now
        self._off = off


class Reader:
    """Reads the world of one trust domain, from a store that others write too."""

    def __init__(
        self,
        store: RotationStore,
        authorities: AuthorityStore,
        clients: ClientRecord,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: RotationPolicy,
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._clients = clients
        self._clock = clock
        self._trust_domain = trust_domain
        self._run = RunTime(clock, policy.clock_skew)
        self.policy = policy

    async def world(self, *, whole: bool = False) -> World:
        """Everything, as it is written down now; what clients hold only if a rotation is under way, or `whole`.

        The bundle is read before the authorities (see Records.publish).
        """
        self._run.look()
        now = self._clock.now()
        bundle = await self._authorities.bundle(self._trust_domain)
        plans = await self._store.plans()
        authorities = await self._authorities.authorities()
        under_way = whole or any(plan.is_open for plan in plans)
        return World(
            now=now,
            running_since=self._run.since,
            bundle=bundle,
            authorities=tuple(authorities),
            plans=tuple(plans),
            holdings=tuple(await self._clients.holdings()) if under_way else (),
            leaves=tuple(await self._store.leaves(now - self.policy.clock_skew)) if under_way else (),
        )
