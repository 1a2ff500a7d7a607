"""Composition of the server, and of `citadel up`, which runs server and node in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2

from citadel import __version__
from citadel import agent as node_side
from citadel.agent import Agent
from citadel.api.admin import AdminParts, add_services
from citadel.api.admin.access import AccessRules, Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.holdings import Holdings
from citadel.api.http import HttpParts, serving
from citadel.api.local import LocalUpstream
from citadel.api.ports import CheckView, HeldView, JobView, PolicyView
from citadel.audit.auditor import Auditor
from citadel.audit.notary import Notary
from citadel.authz import MeshFacts, PathNormalization, PolicySet
from citadel.authz.sources import KeptPolicies, PolicySource
from citadel.backup.keeper import HighWaterKeeper
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.federation import Federation
from citadel.ca.issuer import IssuancePolicy, Issuer
from citadel.ca.kek_place import CredentialPlace, FilePlace, KekPlace
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.rekeying import Rekeying
from citadel.ca.roots import CacertsRoot, DiskRoot, DiskRootMaker, RemoteRootMaker
from citadel.ca.rotation import RootKind, RotationPolicy
from citadel.ca.rotation.ports import RootMaker
from citadel.ca.rotation.rotations import Rotations
from citadel.changes import Topic
from citadel.clock import Clock
from citadel.config import Change, Settings, TransitKey, database_url
from citadel.errors import CitadelError, FailedPrecondition, Unavailable
from citadel.jobs import Job, Jobs
from citadel.jobs import standard as standard_jobs
from citadel.jobs.folder import EntryFolder
from citadel.jobs.rotation import RotationRunner
from citadel.registry import Directory, Registry, RegistryPolicy
from citadel.spiffe import SpiffeId
from citadel.store import Store
from citadel.supervision import Supervisor
from citadel.telemetry import logging as our_logging
from citadel.telemetry.health import Health, Severity
from citadel.telemetry.metrics import Metrics
from citadel.vault import Session, checked_kek
from citadel.vault_parts import TransitPlace, vault_root, vault_session
from citadel.workload.listener import private_folder
from citadel.workload.outage import Outage
from citadel.workload.peer import PeerTable
from citadel.workload.relay import Relay

_GRACE_SECONDS = 2.0
_SETTLE_AGE = timedelta(minutes=1)  # on a shared database: what another server is about to finish is left alone
log = structlog.get_logger("citadel")


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
        self.kek = kek = keks.load()
        self.rekeying = Rekeying(
            store.authorities, store.audit, store.audit, kek, keks, clock, shared=store.kind == "postgresql"
        )
        self.vault = vault
        self.node_id = SpiffeId.of(settings.trust_domain, "spire", "agent", settings.node_name)
        keyring = Keyring(store.authorities, kek)
        root = DiskRoot(
            store.authorities,
            keyring,
            clock,
            settings.trust_domain,
            ttl=settings.root.ttl,
            issuing_ttl=settings.ca.ttl,
            key_type=KeyType(settings.root.key_type),
        )
        folder = settings.root.cacerts_dir if settings.root.kind == "cacerts" else None
        remote = vault_root(settings, vault, clock) if vault is not None else None
        self.authorities = Authorities(
            store.authorities,
            keyring,
            root,
            clock,
            settings.trust_domain,
            AuthorityPolicy(
                settings.ca.ttl,
                settings.svid.max_ttl,
                KeyType(settings.ca.key_type),
                int(settings.bundle.refresh_hint.total_seconds()),
            ),
            plugged=CacertsRoot(folder, settings.trust_domain, clock) if folder is not None else None,
            remote=remote,
            wants_remote=settings.root.kind == "vault",
            meter=self.metrics,
        )
        issuing_key = KeyType(settings.ca.key_type)
        maker: RootMaker = DiskRootMaker(root, keyring, clock, issuing_key)
        if settings.root.kind == "vault" and remote is not None:
            maker = RemoteRootMaker(remote, store.authorities, keyring, clock, settings.trust_domain, issuing_key)
        self.rotations = Rotations(
            store.rotation,
            store.authorities,
            Holdings(store.clients, settings.trust_domain),
            maker,
            clock,
            settings.trust_domain,
            _rotation_policy(settings),
            longest_leaf=settings.svid.max_ttl,
            changed=self.authorities.refresh,
            kind=RootKind.CACERTS if settings.root.kind == "cacerts" else RootKind.DISK,  # Vault's has a maker too
        )
        self.rotation_runner = RotationRunner(self.rotations, store.changes, settings.rotation.check, self.metrics)
        self.issuer = Issuer(self.authorities, store.issuance, clock, _issuance_policy(settings), meter=self.metrics)
        self.registry = Registry(store.entries, settings.trust_domain, clock, _registry_policy(settings))
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
        self.policies = _policy_source(settings, clock, metrics)
        self.jobs = Jobs(
            store.jobs, clock, self._jobs(), server=settings.audit.writer, leases=store.leases, meter=self.metrics
        )
        self.supervisor = Supervisor()
        self.node: Agent | None = None
        self.gate: Gate | None = None
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
        await self.authorities.ensure()
        age = _SETTLE_AGE if self.store.kind == "postgresql" else timedelta(0)
        await self.issuer.settle_unfinished(older_than=age)
        self.health.add("store", self.store.health, severity=Severity.UNREADY)
        self.health.add("audit-log", self.notary.look, severity=Severity.WARNING)
        self.health.add("registry", self.directory.health, severity=Severity.UNREADY)
        self.health.add("tasks", self.supervisor.look, severity=Severity.UNREADY)
        self.health.add("issuing-ca", self._can_sign, severity=Severity.UNREADY)
        self.health.add("renewals", self._renews, severity=Severity.WARNING)
        if self.vault is not None:
            self.health.add("vault", self._vault_answers, severity=Severity.WARNING)
        if self.policies is not None:
            await self.policies.restore()
            self.health.add("policies", self._decides, severity=Severity.UNREADY)
            self.health.add("policy-source", self._follows_policies, severity=Severity.WARNING)

    async def follow_authorities(self) -> None:
        """Notice what another server did to the authorities, until cancelled."""
        async with self.store.changes.subscribe([Topic.AUTHORITIES]) as news:
            async for _ in news:
                with suppress(CitadelError):  # the health check tells
                    await self.authorities.refresh()

    def reconfigure(self, settings: Settings, *, pending: Sequence[Change] = ()) -> None:
        """Take the settings into use that may change while we run. `pending`: what differs in the configuration, and
        waits for a restart."""
        self.settings = settings
        self._pending = tuple(pending)
        self.issuer.policy = _issuance_policy(settings)
        self.registry.policy = _registry_policy(settings)
        our_logging.configure(settings.log.level, settings.log.format)
        if self.gate is not None:
            self.gate.rules = _access_rules(settings)
        if self.node is not None:
            self.node.reconfigure(settings)

    def _jobs(self) -> list[Job]:
        every = self.settings.jobs
        jobs = [
            standard_jobs.renew_ca(self.authorities, every.renew_ca),
            standard_jobs.expire_entries(self.registry, every.expire_entries),
            standard_jobs.prune(
                self.store.issuance, self.store.clients, self.notary, self.clock, self._retention, every.prune
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

    def _retention(self) -> standard_jobs.Retention:
        keep = self.settings.retention
        return standard_jobs.Retention(keep.issuance, keep.clients, keep.audit, keep.batch)

    async def _can_sign(self) -> None:
        self.authorities.current()

    async def _vault_answers(self) -> None:
        """Warns only: what we hold goes on. How long, is part of what is said."""
        assert self.vault is not None
        standing = self.vault.status()
        if standing.fault:
            raise Unavailable(f"{standing.fault} (since {standing.since:%Y-%m-%dT%H:%M:%SZ}); {self._lasts()}")
        if self.settings.root.kind == "vault" and self.authorities.plugged_fault:
            raise Unavailable(f"{self.authorities.plugged_fault}; {self._lasts()}")

    def _lasts(self) -> str:
        try:
            current = self.authorities.current()
        except CitadelError:
            return "nothing that we hold can sign"
        return f"certificates are issued from what we hold until {current.ends:%Y-%m-%dT%H:%M:%SZ}"

    async def _decides(self) -> None:
        """The first read may still be under way: then everything is denied."""
        if self.policies is not None and self.policies.policies is None:
            raise Unavailable("there is no good set of policies yet, and every check is denied")

    async def _follows_policies(self) -> None:
        if self.policies is not None and self.policies.fault:
            raise FailedPrecondition(self.policies.fault)

    def policy_set(self) -> PolicySet | None:
        return None if self.policies is None else self.policies.policies

    async def _renews(self) -> None:
        if (outage := self._outage()) is not None:
            raise Unavailable(outage.sentence())

    def _outage(self) -> Outage | None:
        return self.node.identities.outage() if self.node else None

    def streams(self) -> int:
        return self.node.service.streams if self.node else 0

    def exposition(self) -> bytes:
        """The metrics, with those that are only looked up when somebody asks."""
        held = self.node.identities.status() if self.node else ()
        self.metrics.expires("leaf", min((one.not_after for one in held if one.not_after), default=None))
        return self.metrics.exposition()

    async def job_views(self) -> Sequence[JobView]:
        return [
            JobView(
                job.name,
                job.last_started_at,
                job.last_started_at + (job.last_duration or timedelta(0)) if job.last_started_at else None,
                job.last_ok is not False,
                job.last_detail,
                job.next_run_at,
            )
            for job in await self.jobs.status()
        ]

    async def check_views(self) -> Sequence[CheckView]:
        return [CheckView(f.name, f.ok, f.reason, f.since) for f in (await self.health.look()).findings]

    def held_views(self) -> Sequence[HeldView]:
        if self.node is None:
            return []
        return [
            HeldView(held.entry_id, held.spiffe_id, held.not_after, held.renew_at, held.last_error)
            for held in self.node.identities.status()
        ]

    def waiting(self) -> Sequence[str]:
        folder_fault = self._folder.fault if self._folder else ""
        outage = self._outage()
        policies = self.policies.fault if self.policies else ""
        faults = (folder_fault, self.rotation_runner.fault, outage.sentence() if outage else "", policies)
        restart = [f"a restart, for {change}" for change in self._pending]
        return [*self.authorities.waiting(), *self.rekeying.waiting(), *(fault for fault in faults if fault), *restart]


class _Situation:
    """api.ports.Situation over a Server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def started_at(self) -> datetime:
        return self._server.started_at

    def streams(self) -> int:
        return self._server.streams()

    async def jobs(self) -> Sequence[JobView]:
        return await self._server.job_views()

    async def checks(self) -> Sequence[CheckView]:
        return await self._server.check_views()

    def held(self) -> Sequence[HeldView]:
        return self._server.held_views()

    def waiting(self) -> Sequence[str]:
        return self._server.waiting()

    def policies(self) -> PolicyView | None:
        source = self._server.policies
        return None if source is None else _policy_view(source)

    async def confirm_policies(self, version: str) -> PolicyView:
        source = self._server.policies
        if source is None:
            raise FailedPrecondition("no policies are configured", mend="set authorization.policies")
        await source.confirm(version)
        return _policy_view(source)


def _policy_view(source: PolicySource) -> PolicyView:
    now, held = source.in_force, source.held
    return PolicyView(
        source=str(source.path),
        version="" if now is None else now.policies.version,
        documents=0 if now is None else len(now.documents),
        since=None if now is None else now.since,
        restored=now is not None and now.restored,
        fault=source.fault,
        held_version="" if held is None else held.version,
        held_documents=0 if held is None else len(held.documents),
        held_why="" if held is None else held.why,
    )


def _policy_source(settings: Settings, clock: Clock, meter: Metrics) -> PolicySource | None:
    told = settings.authorization
    if told.policies is None:
        return None
    facts = MeshFacts(
        settings.trust_domain,
        aliases=told.trust_domain_aliases,
        root_namespace=told.root_namespace,
        path_normalization=PathNormalization(told.path_normalization),
        trusted_proxies=told.trusted_proxies,
    )
    kept = KeptPolicies(settings.data_dir / "policies" / "last-good.json")
    return PolicySource(told.policies, facts, kept, clock, default_namespace=told.default_namespace, meter=meter)


def _issuance_policy(settings: Settings) -> IssuancePolicy:
    return IssuancePolicy(
        default_ttl=settings.svid.default_ttl,
        longest_ttl=settings.svid.max_ttl,
        shortest=min(timedelta(seconds=10), settings.svid.min_ttl),
        backdate=settings.svid.backdate,
    )


def _rotation_policy(settings: Settings) -> RotationPolicy:
    keep = settings.rotation
    return RotationPolicy(
        reconnect_window=keep.reconnect_window,
        grace=keep.grace,
        assumed_after=keep.assumed_after,
        session_life=keep.session_life,
        emergency_gate=keep.emergency_gate,
        clock_skew=keep.clock_skew,
        approval=keep.approval,
        plugged_by_itself=keep.plugged == "automatic",
    )


def _registry_policy(settings: Settings) -> RegistryPolicy:
    return RegistryPolicy(settings.svid.min_ttl, settings.svid.max_ttl)


def _access_rules(settings: Settings) -> AccessRules:
    admin = settings.sockets.admin
    return AccessRules(frozenset(admin.allow_uids), frozenset(admin.allow_gids))


async def _keks(settings: Settings, vault: Session | None) -> KekPlace:
    source = settings.keys.kek
    if isinstance(source, TransitKey):
        assert vault is not None  # config.checks says so
        return TransitPlace(await checked_kek(vault, source.mount, source.name))
    if source.kind == "file":
        return FilePlace(Path(source.where))
    return CredentialPlace(source.where, os.environ.get("CREDENTIALS_DIRECTORY"))


@asynccontextmanager
async def _admin(server: Server, private: Path) -> AsyncIterator[None]:
    """The admin socket."""
    settings = server.settings
    table = PeerTable()
    socket = settings.sockets.admin
    gate = server.gate = Gate(table.lookup, _access_rules(settings))
    cases = AdminUseCases(
        settings.trust_domain,
        server.node_id,
        server.store.kind,
        server.clock,
        server.registry,
        server.directory,
        server.directory.node(server.node_id),
        Federation(server.store.authorities, server.store.federation, settings.trust_domain, server.clock),
        server.authorities,
        server.store.authorities,
        server.store.issuance,
        server.store.clients,
        server.store.audit,
        Auditor(server.store.audit, server.kek),
        server.notary,
        _Situation(server),
    )
    grpc_server = grpc.aio.server(options=[("grpc.max_receive_message_length", 32 << 20), ("grpc.so_reuseport", 0)])
    healthy = add_services(grpc_server, AdminParts(cases, gate, server.issuer, server.rotations, server.rekeying))
    inner = private / "admin.sock"
    inner.unlink(missing_ok=True)
    grpc_server.add_insecure_port(f"unix:{inner}")
    await grpc_server.start()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        async with Relay(socket.path, inner, table, mode=socket.mode, group=socket.group):
            yield
    finally:
        await healthy.enter_graceful_shutdown()
        await grpc_server.stop(_GRACE_SECONDS)


@asynccontextmanager
async def up(settings: Settings, clock: Clock) -> AsyncIterator[Server]:
    """Server and node, running inside the context. Raises CitadelErrors; what was begun is ended."""
    async with AsyncExitStack() as stack:
        url = database_url(settings, os.environ).get_secret_value()
        vault = vault_session(settings, os.environ, clock)
        if vault is not None:
            stack.push_async_callback(vault.close)
        keks = await _keks(settings, vault)
        keks.load()  # before anything is opened: what is wrong with it is told at once
        metrics = Metrics(__version__)
        private = private_folder(settings.sockets.workload.path.parent / ".private")
        store = await stack.enter_async_context(
            Store.open(
                url,
                writer=settings.audit.writer,
                pool_size=settings.store.pool_size,
                timeout=settings.store.timeout,
                meter=metrics,
            )
        )
        server = Server(settings, store, keks, clock, metrics, vault)
        await server.start()
        stack.push_async_callback(server.high_water.last)
        stack.push_async_callback(_last_checkpoint, server.notary)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "authorities": server.follow_authorities,
            "directory": server.directory.run,
            "audit": server.notary.follow,
            "rotation": server.rotation_runner.run,
            "high water": server.high_water.run,
        }
        if vault is not None:
            works["vault"] = vault.run
            works["vault watch"] = partial(vault.watch, settings.vault.check)
        if server.policies is not None:
            works["policies"] = server.policies.run
        if (folder := server.entry_folder()) is not None:
            works["entry folder"] = folder.watch
        for name, work in works.items():
            task = asyncio.create_task(server.supervisor.keep(name, work), name=name)
            stack.push_async_callback(_cancelled, task)
        server.node = await stack.enter_async_context(
            node_side.running(
                settings, server.upstream, clock, private, policies=server.policy_set, meter=server.metrics
            )
        )
        await server.jobs.start()
        stack.push_async_callback(server.jobs.stop)
        if settings.http.address is not None:
            parts = HttpParts(server.health.look, server.exposition)
            await stack.enter_async_context(serving(parts, settings.http.address.host, settings.http.address.port))
        stack.push_async_callback(server.health.close)
        await stack.enter_async_context(_admin(server, private))  # the last: who reaches it finds all of us
        yield server


async def _last_checkpoint(notary: Notary) -> None:
    with suppress(CitadelError):  # the next start goes on from the one before
        await notary.checkpoint()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


__all__ = ["Server", "up"]
