"""How a server stands, for `status`: what only the running process knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from citadel.agent import Agent
from citadel.api.ports import CheckView, HeldView, JobView, PolicyView, VaultView
from citadel.jobs import Jobs
from citadel.server.policies import FollowedSource
from citadel.telemetry.health import Health
from citadel.workload.outage import Outage


class RunningSituation:
    """Contract: api.ports.Situation. `waits`: the sentences for what waits on the server's side.

    `node` is None until the node's side runs.
    """

    def __init__(
        self,
        started_at: datetime,
        health: Health,
        jobs: Jobs,
        policies: FollowedSource,
        waits: Callable[[], Sequence[str]],
        vault: Callable[[], VaultView | None],
    ) -> None:
        self.started_at = started_at
        self.node: Agent | None = None
        self._health = health
        self._jobs = jobs
        self._policies = policies
        self._waits = waits
        self.vault = vault

    def outage(self) -> Outage | None:
        return self.node.identities.outage() if self.node else None

    def streams(self) -> int:
        return self.node.service.streams if self.node else 0

    async def jobs(self) -> Sequence[JobView]:
        return [
            JobView(
                job.name,
                job.last_started_at,
                job.last_started_at + (job.last_duration or timedelta(0)) if job.last_started_at else None,
                job.last_ok is not False,
                job.last_detail,
                job.next_run_at,
            )
            for job in await self._jobs.status()
        ]

    async def checks(self) -> Sequence[CheckView]:
        return [CheckView(f.name, f.ok, f.reason, f.since) for f in (await self._health.look()).findings]

    def held(self) -> Sequence[HeldView]:
        if self.node is None:
            return []
        return [
            HeldView(held.entry_id, held.spiffe_id, held.not_after, held.renew_at, held.last_error)
            for held in self.node.identities.status()
        ]

    def waiting(self) -> Sequence[str]:
        outage = self.outage()
        return [*self._waits(), *([outage.sentence()] if outage else [])]

    def policies(self) -> PolicyView | None:
        return self._policies.view()

    async def confirm_policies(self, version: str, actor: str) -> PolicyView:
        return await self._policies.confirm(version, actor)
