"""Composition of the node's side: the workload socket, attestation, identities, SDS, ext_authz."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import grpc
import stamina

from citadel.api.authorization.askers import AttestedAskers
from citadel.api.authorization.service import CheckService
from citadel.api.ext_authz_http import serving
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.doors import (
    AuthorizationService,
    Caller,
    Connection,
    DenialHeader,
    Door,
    DoorRules,
    HttpDoor,
    HttpRules,
    Registered,
)
from citadel.clock import Clock
from citadel.config import Settings
from citadel.errors import CitadelError, Unavailable
from citadel.sds.acks import AckQueue
from citadel.sds.files import FileSecrets
from citadel.sds.ports import Acknowledgement, StreamMeter
from citadel.sds.service import SERVER_OPTIONS, SecretService
from citadel.workload.attestors import Attestor, Attestors, DockerAttestor, SystemdAttestor, UnixAttestor
from citadel.workload.callers import Callers
from citadel.workload.census import Census, CensusLimits, Last
from citadel.workload.feeds import Feeds
from citadel.workload.identities import Identities
from citadel.workload.keys import WorkloadKeys
from citadel.workload.peer import PeerTable
from citadel.workload.ports import WorkloadMeter
from citadel.workload.relay import Relay, RelayLimits
from citadel.workload.upstream import AckKind, AckReport, Upstream

_GRACE_SECONDS = 2.0
#: Connections that lead nowhere end: those that never speak HTTP/2, that have no call open, that do not answer.
_BOUNDED: tuple[tuple[str, int], ...] = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class NodeMeter(StreamMeter, WorkloadMeter, Protocol):
    """Counts what the node does. Implementation: telemetry.metrics."""


class _Attested:
    """authz.doors.Callers over the feeds of the workload socket."""

    def __init__(self, callers: Callers, identities: Identities) -> None:
        self._callers = callers
        self._identities = identities

    async def caller(self, connection: Connection) -> Caller:
        if not self._identities.told:  # nobody would be anybody
            raise Unavailable("the registration entries are not here yet")
        feed = await self._callers.feed(connection.peer())
        domains = feed.view.bundles.keys()  # raises if the caller is not who it was
        entries = tuple(Registered(one.spiffe_id, dict(one.labels), one.federates_with) for one in feed.entries)
        return Caller(feed.peer.name, entries, frozenset(domains))


class Agent:
    """A running node: what `status` asks it, and what SIGHUP changes."""

    def __init__(
        self,
        identities: Identities,
        feeds: Feeds,
        service: SecretService,
        files: FileSecrets,
        relay: Relay,
        census: Census,
    ) -> None:
        self.identities = identities
        self.service = service
        self.files = files
        self._feeds = feeds
        self._relay = relay
        self._census = census

    def reconfigure(self, settings: Settings) -> None:
        """Take the settings into use that may change while we run."""
        self._feeds.streams_per_uid = settings.sockets.workload.quota_streams_per_uid
        self._relay.limits = _limits(settings)
        limits = _census_limits(settings)  # what was given out under the settings before may live on
        self._census.limits = replace(limits, memory=max(limits.memory, self._census.limits.memory))


@asynccontextmanager
async def running(
    settings: Settings,
    upstream: Upstream,
    clock: Clock,
    private: Path,
    *,
    point: DecisionPoint,
    meter: NodeMeter,
) -> AsyncIterator[Agent]:
    """Run the node's side inside the context. `private` is a 0700 folder for sockets that only we may reach.
    `point` decides the checks."""
    table = PeerTable()
    identities = Identities(upstream, clock, keys=WorkloadKeys(settings.svid.key_type), meter=meter)
    feeds = Feeds(
        table,
        Attestors(_attestors(settings), timeout=settings.attestors.timeout, meter=meter),
        identities,
        clock,
        settings.trust_domain,
        recheck=settings.attestors.recheck,
        streams_per_uid=settings.sockets.workload.quota_streams_per_uid,
        meter=meter,
    )

    async def report(items: Sequence[Acknowledgement]) -> None:
        await upstream.report([_report(item) for item in items])

    acks = AckQueue(report, meter=meter)
    files = FileSecrets(settings.files.directories if settings.files.enabled else (), clock)
    names = settings.sockets.workload.max_resources_per_stream

    def last(client: str, uid: int, kind: Last) -> None:
        acks.put(Acknowledgement(clock.now(), client, "", kind, "", "", "", uid=uid))

    census = Census(last, _census_limits(settings))
    service = SecretService(feeds, acks, clock, files=files, meter=meter, presence=census, max_names=names)
    server = grpc.aio.server(options=(*SERVER_OPTIONS, *_BOUNDED))
    service.add_to(server)
    callers = Callers(feeds, table)
    attested, rules = _Attested(callers, identities), door_rules(settings)
    AuthorizationService(Door(point, rules), attested).add_to(server)
    CheckService(point, AttestedAskers(attested, rules)).add_to(server)
    inner = private / "workload.sock"
    inner.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{inner}")
    await server.start()
    public = settings.sockets.workload
    relay = Relay(public.path, inner, table, mode=public.mode, limits=_limits(settings), meter=meter)
    works = (identities.run(), feeds.run(), acks.run(), files.run(), _remember(census, upstream))
    try:
        over_http = _ext_authz_http(settings, point, attested, private, table, meter)
        async with relay, callers, over_http, asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            yield Agent(identities, feeds, service, files, relay, census)
            for task in tasks:
                task.cancel()
    finally:
        await server.stop(_GRACE_SECONDS)
        census.close()
        await acks.flush()


@asynccontextmanager
async def _ext_authz_http(
    settings: Settings, point: DecisionPoint, callers: _Attested, private: Path, table: PeerTable, meter: NodeMeter
) -> AsyncIterator[None]:
    """ext_authz over HTTP on a unix socket of its own, if one is configured."""
    told = settings.authorization.http
    if told.socket is None:
        yield
        return
    rules = HttpRules(frozenset(told.xfcc_from), told.connection_headers, told.path_prefix)
    inner = private / "ext-authz-http.sock"
    relay = Relay(told.socket, inner, table, mode=told.mode, limits=_limits(settings), meter=meter)
    async with serving(HttpDoor(point, door_rules(settings), rules), callers, inner), relay:
        yield


async def _remember(census: Census, upstream: Upstream) -> None:
    """Processes may have ended while we were down."""
    async for attempt in stamina.retry_context(CitadelError, attempts=None, timeout=None, wait_max=5.0):
        with attempt:
            census.remember(await upstream.recorded())


def _limits(settings: Settings) -> RelayLimits:
    socket = settings.sockets.workload
    return RelayLimits(connections=socket.max_connections, per_uid=socket.quota_connections_per_uid)


def _census_limits(settings: Settings) -> CensusLimits:
    socket = settings.sockets.workload
    memory = settings.svid.max_ttl + settings.rotation.grace
    return CensusLimits(socket.quota_clients_per_process, socket.quota_clients_per_uid, memory)


def door_rules(settings: Settings) -> DoorRules:
    """What all doors of ext_authz go by."""
    told = settings.authorization
    return DoorRules(
        told.default_namespace,
        frozenset(told.claims_from),
        told.path_normalized,
        tuple(DenialHeader(one.name, one.text) for one in told.denial_headers),
    )


def _attestors(settings: Settings) -> list[Attestor]:
    unix, docker = settings.attestors.unix, settings.attestors.docker
    chosen: list[Attestor] = [UnixAttestor(discover_path=unix.discover_path, max_hash_size=unix.max_hash_size)]
    if settings.attestors.systemd.enabled:
        chosen.append(SystemdAttestor())
    if docker.enabled:
        chosen.append(DockerAttestor(docker.socket))
    return chosen


def _report(item: Acknowledgement) -> AckReport:
    return AckReport(
        at=item.at,
        client=item.client,
        stream=item.stream,
        kind=AckKind(item.kind),
        resource=item.resource,
        type_url=item.type_url,
        version=item.version,
        spiffe_id=item.spiffe_id,
        sequence=item.sequence,
        serial=item.serial,
        authority=item.authority,
        not_after=item.not_after,
        detail=item.detail,
    )
