"""The parts of a server, made once per process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from citadel.agent import Agent
from citadel.api.admin.access import Gate
from citadel.api.local import LocalUpstream
from citadel.audit.notary import Notary
from citadel.authz import PolicySet
from citadel.authz.decision_point import DecisionPoint
from citadel.backup.keeper import HighWaterKeeper
from citadel.ca.issuer import Issuer
from citadel.ca.kek_place import KekPlace
from citadel.ca.rekeying import Rekeying
from citadel.changes import Topic
from citadel.clock import Clock
from citadel.config import Change, Settings
from citadel.errors import CitadelError, Unavailable
from citadel.jobs import Job, Jobs
from citadel.jobs import standard as standard_jobs
from citadel.jobs.folder import EntryFolder
from citadel.jobs.rotation import RotationRunner, planned_rotation
from citadel.registry import Directory, Registry
from citadel.server import checks, told
from citadel.server.authority import authority_parts
from citadel.server.decision_log import decision_log
from citadel.server.late import LateStart
from citadel.server.policies import FollowedSource, policy_source
from citadel.server.situation import RunningSituation
from citadel.server.vault import vault_view, vault_watch
from citadel.spiffe import SpiffeId
from citadel.store import Store
from citadel.supervision import Supervisor
from citadel.telemetry import logging as our_logging
from citadel.telemetry.health import Health, Severity
from citadel.telemetry.metrics import Metrics
from citadel.vault import Session

_READ_AGAIN_SECONDS = 1.0
_SETTLE_AGE = timedelta(minutes=1)  # on a shared database: what another server is about to finish is left alone


class Server:
    """What is made once per process, in order of dependence."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        keks: KekPlace,
        clock: Clock,
        metrics: Metrics,
        vault: Session | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.started_at = clock.now()
        self.metrics = metrics
        self.keks = keks
        self.kek = kek = keks.load()
        self.rekeying = Rekeying(
            store.authorities, store.audit, store.audit, kek, keks, clock, shared=store.kind == "postgresql"
        )
        self.vault = vault
        self.node_id = SpiffeId.of(settings.trust_domain, "spire", "agent", settings.node_name)
        ca = authority_parts(settings, store, kek, clock, metrics, vault)
        self.authorities, self.rotations, self.planner = ca.authorities, ca.rotations, ca.planner
        self.late = LateStart(self.authorities.ensure, waits_for_vault=vault is not None)
        self.brought, self.approved = ca.brought, ca.approved
        self.vault_watch = vault_watch(settings, vault, keks, self.authorities, store, clock, metrics)
        self.rotation_runner = RotationRunner(self.rotations, store.changes, settings.rotation.check, self.metrics)
        self.issuer = Issuer(
            self.authorities, store.issuance, clock, told.issuance_policy(settings), meter=self.metrics
        )
        self.registry = Registry(store.entries, settings.trust_domain, clock, told.registry_policy(settings))
        self.directory = Directory(store.entries, store.changes, clock)
        self.upstream = LocalUpstream(
            self.node_id,
            self.directory,
            clock,
            store.authorities,
            self.issuer,
            store.clients,
            store.changes,
            reissue_per_second=settings.rotation.reissue_per_second,
        )
        self.notary = Notary(store.audit, store.audit, kek, clock, every=settings.audit.checkpoint_records)
        self.high_water = HighWaterKeeper(
            self.settings.data_dir / "high-water", store.authorities, store.audit, settings.trust_domain, store.changes
        )
        self.health = Health(clock, meter=self.metrics)
        self.policies = policy_source(settings, store, clock, metrics)
        self.decision_log = decision_log(settings, self.health, metrics)
        self.followed = FollowedSource(self.policies, settings, store.audit, clock)
        self.jobs = Jobs(
            store.jobs, clock, self._jobs(), server=settings.audit.writer, leases=store.leases, meter=self.metrics
        )
        self.situation = RunningSituation(
            self.started_at,
            self.health,
            self.jobs,
            self.followed,
            self._waits,
            partial(vault_view, vault, self.vault_watch, self.authorities),
        )
        self.supervisor = Supervisor()
        self.node: Agent | None = None
        self.gate: Gate | None = None
        self.point: DecisionPoint | None = None
        self._pending: tuple[Change, ...] = ()
        self._folder: EntryFolder | None = None

    async def start(self) -> None:
        """Bring the authorities into the state in which they can sign, and settle what a crash left open."""
        database_id = await self.store.recognise(self.settings.data_dir / "database-id")
        await self.store.pin_trust_domain(self.settings.trust_domain)
        self.high_water.know(database_id)
        await self.high_water.refuse_older()
        await self.notary.open()
        await self.rekeying.resume()
        await self.late.begin()
        age = _SETTLE_AGE if self.store.kind == "postgresql" else timedelta(0)
        await self.issuer.settle_unfinished(older_than=age)
        self.health.add("store", self.store.health, severity=Severity.UNREADY)
        self.health.add("audit-log", self.notary.look, severity=Severity.WARNING)
        self.health.add("registry", self.directory.health, severity=Severity.UNREADY)
        self.health.add("tasks", self.supervisor.look, severity=Severity.UNREADY)
        checks.key_check(self.health, self.keks, self.kek)
        checks.trusted_files_check(self.health, self.settings)
        checks.authority_checks(self.health, self.authorities, self.situation.outage)
        if self.vault is not None:
            checks.vault_checks(self.health, self.vault, self.settings, self.authorities)
        if self.vault_watch is not None:
            checks.vault_watch_check(self.health, self.vault_watch)
        if self.policies is not None:
            await self.policies.restore()
            checks.policy_checks(self.health, self.policies)

    async def follow_authorities(self) -> None:
        """Notice what another server did to the authorities, until cancelled."""
        async with self.store.changes.subscribe([Topic.AUTHORITIES]) as news:
            async for _ in news:
                while not await self._read_authorities():  # noqa: ASYNC110  # nothing tells when the store is back
                    await asyncio.sleep(_READ_AGAIN_SECONDS)

    async def _read_authorities(self) -> bool:
        """Whether nothing can be gained by trying again soon."""
        try:
            await self.authorities.refresh()
        except Unavailable:
            return False
        except CitadelError:
            pass  # the health check tells
        return True

    def reconfigure(self, settings: Settings, *, pending: Sequence[Change] = ()) -> None:
        """Take the settings into use that may change while we run. `pending`: what differs in the configuration, and
        waits for a restart."""
        self.settings = settings
        self._pending = self.followed.pending = tuple(pending)
        self.issuer.policy = told.issuance_policy(settings)
        self.registry.policy = told.registry_policy(settings)
        our_logging.configure(settings.log.level, settings.log.format)
        if self.gate is not None:
            self.gate.rules = told.access_rules(settings)
        if self.node is not None:
            self.node.reconfigure(settings)

    def _jobs(self) -> list[Job]:
        every = self.settings.jobs
        jobs = [
            standard_jobs.renew_ca(self.authorities, every.renew_ca),
            planned_rotation(
                self.planner,
                self.store.leases,
                self.settings.audit.writer,
                self.clock,
                self.metrics,
                every.planned_rotation,
            ),
            standard_jobs.expire_entries(self.registry, every.expire_entries),
            standard_jobs.prune(
                self.store.issuance,
                self.store.clients,
                self.notary,
                self.authorities,
                self.clock,
                self.retention,
                every.prune,
            ),
            standard_jobs.audit_checkpoint(self.notary, every.audit_checkpoint),
        ]
        if self.settings.root.kind == "cacerts":
            jobs.append(standard_jobs.plugged_ca(self.authorities, every.plugged_ca))
        if self.settings.root.kind == "vault":
            jobs.append(standard_jobs.vault_root(self.authorities, self.settings.vault.check))
        return jobs

    def entry_folder(self) -> EntryFolder | None:
        """What keeps an apply set as the watched folder says, if one is configured."""
        wanted = self.settings.apply
        if wanted.directory is None:
            return None
        self._folder = EntryFolder(self.registry, self.node_id, wanted.directory, wanted.set, prune=wanted.prune)
        return self._folder

    def retention(self) -> standard_jobs.Retention:
        """As the settings are now."""
        return told.retention(self.settings)

    def policy_set(self) -> PolicySet | None:
        return None if self.policies is None else self.policies.policies

    def runs_node(self, node: Agent) -> None:
        """The node's side runs: `status` and a reload reach it."""
        self.node = self.situation.node = node

    def exposition(self) -> bytes:
        """The metrics, with those that are only looked up when somebody asks."""
        held = self.node.identities.status() if self.node else ()
        self.metrics.expires("leaf", min((one.not_after for one in held if one.not_after), default=None))
        return self.metrics.exposition()

    def _waits(self) -> Sequence[str]:
        folder = self._folder.fault if self._folder else ""
        policies = self.policies.fault if self.policies else ""
        faults = (self.late.fault, folder, self.rotation_runner.fault, policies)
        changed = [str(one.finding) for one in self.vault_watch.findings()] if self.vault_watch else []
        restart = [f"a restart, for {change}" for change in self._pending]
        told = (fault for fault in faults if fault)
        return [*self.authorities.waiting(), *changed, *self.rekeying.waiting(), *told, *restart]
