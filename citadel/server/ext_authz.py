"""ext_authz over TCP with mTLS: the door for Envoys on other machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from operator import is_
from pathlib import Path
from typing import Protocol

import grpc

from citadel.agent import door_rules
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.doors import (
    AuthorizationService,
    Door,
    Registered,
    Registration,
    RemoteCallers,
    Trust,
)
from citadel.clock import Clock
from citadel.config import Settings
from citadel.registry import Directory, Entry
from citadel.sds.service import SERVER_OPTIONS
from citadel.server.checks import certificate_check
from citadel.server.own_certificate import OwnCertificate, pem
from citadel.server.server import Server
from citadel.spiffe import SpiffeId
from citadel.workload.keys import WorkloadKeys
from citadel.workload.tcp_relay import TcpLimits, TcpRelay
from citadel.workload.upstream import Bundle, Upstream

_GRACE_SECONDS = 2.0
_CALLS_AT_ONCE = 4096
_MOST_REMEMBERED = 4096
DOOR = "ext_authz_tcp"
_BOUNDED: tuple[tuple[str, int], ...] = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_age_ms", 600_000),  # then the client proves itself again, by the trust bundle of then
    ("grpc.max_connection_age_grace_ms", 10_000),
)


class _Registrations:
    """doors.remote.Registrations over the directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._known: dict[SpiffeId, tuple[list[Entry], Sequence[Registration]]] = {}

    def of(self, spiffe_id: SpiffeId) -> Sequence[Registration]:
        """While the entries are the same, the same object."""
        entries = self._directory.named(spiffe_id)
        known = self._known.get(spiffe_id)
        if known is not None and len(known[0]) == len(entries) and all(map(is_, known[0], entries)):
            return known[1]
        found = tuple(Registration(Registered(one.spiffe_id, dict(one.labels)), one.federates_with) for one in entries)
        if entries:  # nobody fills this with names that nobody has
            if len(self._known) >= _MOST_REMEMBERED:
                self._known = {}
            self._known[spiffe_id] = entries, found
        return found


class ExtAuthzPort:
    """The TCP door. Keep `works` going, and open it."""

    def __init__(
        self,
        settings: Settings,
        point: DecisionPoint,
        certificate: OwnCertificate,
        upstream: Upstream,
        directory: Directory,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._point = point
        self._certificate = certificate
        self._upstream = upstream
        self._directory = directory
        self._clock = clock
        self._bundle: Bundle | None = None
        self._ready = asyncio.Event()
        self._trusted: tuple[Bundle | None, Trust] | None = None
        self._given: tuple[object, object] | None = None

    def works(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {"server certificate": self._certificate.run, "trust of ext_authz": self._follow}

    async def _follow(self) -> None:
        async with self._upstream.bundles() as news:
            async for bundles in news:
                self._bundle = bundles.get(self._upstream.trust_domain, self._bundle)
                self._ready.set()

    def _trust(self) -> Trust:
        """While the bundle is the same, the same object."""
        bundle, known = self._bundle, self._trusted
        if known is None or known[0] is not bundle:
            trust = Trust(self._upstream.trust_domain, () if bundle is None else bundle.crls)
            known = self._trusted = bundle, trust
        return known[1]

    def _configured(self) -> grpc.ServerCertificateConfiguration:
        """For a handshake now."""
        mine, bundle = self._certificate.current, self._bundle
        assert mine is not None
        assert bundle is not None
        self._given = mine, bundle
        return grpc.ssl_server_certificate_configuration([(mine.key, mine.chain)], pem(bundle.roots))

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC asks at each handshake; None: what it was given is right still."""
        given = self._given
        if given is not None and given[0] is self._certificate.current and given[1] is self._bundle:
            return None
        return self._configured()

    @asynccontextmanager
    async def open(self, private: Path) -> AsyncIterator[TcpRelay]:
        """Listen inside the context, and answer as soon as there is a certificate to answer with.

        Raises FailedPrecondition if the address cannot be had."""
        told = self._settings.authorization.tcp
        assert told.address is not None
        inner = private / "ext-authz.sock"
        await asyncio.to_thread(inner.unlink, missing_ok=True)
        limits = TcpLimits(told.max_connections, told.quota_connections_per_address)
        async with TcpRelay(told.address.host, told.address.port, inner, limits) as relay:
            task = asyncio.create_task(self._serve(inner, relay), name="ext_authz over TCP")
            try:
                yield relay
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _serve(self, inner: Path, relay: TcpRelay) -> None:
        """Until cancelled."""
        await self._ready.wait()
        await self._certificate.obtained.wait()
        callers = RemoteCallers(_Registrations(self._directory), self._trust, self._clock, relay.address)
        server = grpc.aio.server(options=(*SERVER_OPTIONS, *_BOUNDED), maximum_concurrent_rpcs=_CALLS_AT_ONCE)
        AuthorizationService(Door(self._point, door_rules(self._settings), DOOR), callers).add_to(server)
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configured(),
            self._changed,  # type: ignore[arg-type]  # None is what its documentation says for: no change
            require_client_authentication=True,
        )
        server.add_secure_port(f"unix:{inner}", credentials)
        await server.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await server.stop(_GRACE_SECONDS)


class TcpDoor(Protocol):
    """The TCP door, whoever serves it."""

    def works(self) -> dict[str, Callable[[], Awaitable[None]]]: ...

    def open(self, private: Path) -> AbstractAsyncContextManager[object]: ...


def ext_authz_port(server: Server, point: DecisionPoint) -> TcpDoor | None:
    """None if no address is configured. Raises FailedPrecondition: workers are wanted and cannot be had."""
    settings = server.settings
    told = settings.authorization.tcp
    if told.address is None:
        return None
    keys = WorkloadKeys(settings.svid.key_type)
    certificate = OwnCertificate(
        settings.trust_domain, told.dns_names, keys, server.issuer, server.upstream, server.clock
    )
    certificate_check(server.health, certificate, server.clock)
    if told.workers:
        from citadel.server.workers.port import WorkerPort

        return WorkerPort(server, certificate)
    return ExtAuthzPort(settings, point, certificate, server.upstream, server.directory, server.clock)
