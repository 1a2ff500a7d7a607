"""The AuthZEN port of a server: who its workloads are, whom it trusts, and where it listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.api.authzen import (
    AccessTokens,
    Anchors,
    AuthzenParts,
    CallerRules,
    Contexts,
    TlsFiles,
    application,
    serving,
)
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.doors.authzen import AuthzenDoor, AuthzenRules, NamedWorkload
from citadel.authz.entities import EntityDirectory, EntitySource, FileEntities, StoreEntities
from citadel.authz.tokens import CachedKeys, FetchPolicy, HttpFetch
from citadel.config.settings import AuthzenSettings
from citadel.errors import FailedPrecondition
from citadel.server.mesh_view import MeshView
from citadel.server.server import Server
from citadel.spiffe import TrustDomain
from citadel.telemetry.health import Severity
from citadel.workload.listener import Listener
from citadel.workload.tcp_relay import TcpLimits, TcpRelay

_NO_ENTITIES = EntityDirectory()
_LIMITS = TcpLimits(connections=512, per_address=128)


class AuthzenPort:
    """What is behind the port. Keep `works` going while it is open."""

    def __init__(self, server: Server, point: DecisionPoint, mesh: MeshView) -> None:
        self._server = server
        told = server.settings.authorization.authzen
        self._mesh = mesh
        self._entities = _entities(server)
        default = None if told.workload is None else NamedWorkload(told.workload)
        self._door = AuthzenDoor(point, self._mesh, self._directory, AuthzenRules(default, told.answers_say_why))
        if self._entities is not None:
            server.health.add("entities", self._follows, severity=Severity.WARNING)

    def works(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs as long as the port is open, by name."""
        return {} if self._entities is None else {"entities": self._entities.run}

    @asynccontextmanager
    async def open(self, private: Path) -> AsyncIterator[None]:
        """Listen inside the context; `private` is a folder that only we may reach.

        Raises FailedPrecondition, PermissionDenied, UnsafePermissions, InvalidInput."""
        told = self._server.settings.authorization.authzen
        searches = self._entities is not None
        if self._entities is not None:
            await self._entities.read()
        async with AsyncExitStack() as stack:
            bearers = await stack.enter_async_context(_bearers(self._server)) if told.bearer_issuer else None
            parts = AuthzenParts(self._door, self._callers, _url(told), searches, told.max_body, bearers)
            app = application(parts)
            if told.socket is not None:
                made = stack.enter_context(Listener(told.socket, mode=told.socket_mode, group=told.socket_group))
                await stack.enter_async_context(serving(app, made))
            if told.address is not None:
                assert told.tls_cert is not None  # config.checks says so
                assert told.tls_key is not None
                of_file = told.client_ca
                anchors = self._anchors if of_file is None else _FileAnchors(of_file, told.client_ca_trust_domains)
                files = TlsFiles(told.tls_cert, told.tls_key)
                contexts = Contexts(files, anchors, demanded=bearers is None)
                inner = private / "authzen.sock"  # before it, connections are bounded that have proven nothing yet
                listener = stack.enter_context(Listener(inner, mode=0o600))
                await stack.enter_async_context(serving(app, listener, contexts))
                relay = TcpRelay(told.address.host, told.address.port, inner, _LIMITS)
                await stack.enter_async_context(relay)
            yield

    def _anchors(self) -> Anchors:
        bundle = self._mesh.bundle()
        ours = frozenset({self._server.settings.trust_domain})
        return Anchors(()) if bundle is None else Anchors(bundle.roots, bundle.crls, ours)

    def _directory(self) -> EntityDirectory | None:
        return _NO_ENTITIES if self._entities is None else self._entities.directory

    def _callers(self) -> CallerRules:
        told = self._server.settings.authorization.authzen
        return CallerRules(frozenset(told.allow), frozenset(told.claims_from))

    async def _follows(self) -> None:
        if self._entities is not None and self._entities.fault:
            raise FailedPrecondition(self._entities.fault)


@asynccontextmanager
async def _bearers(server: Server) -> AsyncIterator[AccessTokens]:
    """With keys of its own: those of policies are forgotten when no policy names them."""
    told = server.settings.authorization
    policy = FetchPolicy(frozenset(told.keys.plain_http_hosts), told.keys.refused_networks)
    async with HttpFetch(policy) as fetch, CachedKeys(fetch, server.clock) as keys:
        audience = told.authzen.bearer_audience or told.authzen.url
        yield AccessTokens(told.authzen.bearer_issuer, audience, keys, server.clock, told.authzen.bearer_jwks_url)


def _entities(server: Server) -> EntitySource | None:
    """None: there is no directory, and no search."""
    told = server.settings.authorization.authzen
    if told.entities_source == "store":
        return StoreEntities(server.store.entities, server.store.changes)
    return None if told.entities is None else FileEntities(told.entities)


class _FileAnchors:
    """The certificates of a PEM file, read again when it changes. What cannot be read changes nothing."""

    def __init__(self, path: Path, trust_domains: Iterable[TrustDomain]) -> None:
        """Raises FailedPrecondition: it cannot be read."""
        self._path = path
        self._trust_domains = frozenset(trust_domains)
        self._state, self._anchors = self._read()

    def __call__(self) -> Anchors:
        try:
            facts = self._path.stat()
            if (facts.st_ino, facts.st_size, facts.st_mtime_ns) != self._state:
                self._state, self._anchors = self._read()
        except (OSError, FailedPrecondition):
            pass
        return self._anchors

    def _read(self) -> tuple[tuple[int, int, int], Anchors]:
        try:
            facts = self._path.stat()
            found = x509.load_pem_x509_certificates(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise FailedPrecondition(
                f"{self._path} holds no certificates that can be read: {error}",
                mend="see authorization.authzen.client_ca",
            ) from None
        roots = tuple(one.public_bytes(Encoding.DER) for one in found)
        return (facts.st_ino, facts.st_size, facts.st_mtime_ns), Anchors(roots, trust_domains=self._trust_domains)


def _url(told: AuthzenSettings) -> str:
    return told.url or (f"https://{told.address}" if told.address is not None else "https://localhost")
