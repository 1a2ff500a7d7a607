"""What the doors of a server know of the mesh: its workloads by name, and the trust domains whose identities count."""

from __future__ import annotations

from citadel.authz import Workload
from citadel.authz.doors import Registered
from citadel.errors import FailedPrecondition, NotFound
from citadel.server.server import Server
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.workload.upstream import Bundle


class MeshView:
    """Keep `follow` going. Contract: authz.doors.authzen.Workloads."""

    def __init__(self, server: Server) -> None:
        told = server.settings.authorization
        self._server = server
        self._default_namespace = told.default_namespace
        self._always = frozenset({server.settings.trust_domain, *told.trust_domain_aliases})
        self._bundles: dict[TrustDomain, Bundle] = {}

    async def follow(self) -> None:
        """Keep what we trust up to date, until cancelled."""
        async with self._server.upstream.bundles() as news:
            async for bundles in news:
                self._bundles = bundles

    def trust_domains(self) -> frozenset[TrustDomain]:
        return self._always | self._bundles.keys()

    def bundle(self) -> Bundle | None:
        """Our own; None: it is not known yet."""
        return self._bundles.get(self._server.settings.trust_domain)

    async def find(self, name: SpiffeId) -> Workload:
        entries = self._server.directory.named(name)
        found = [Registered(one.spiffe_id, dict(one.labels)).workload(self._default_namespace) for one in entries]
        if not found:
            raise NotFound(f"nobody is registered as {name}")
        if any(other != found[0] for other in found[1:]):
            raise FailedPrecondition(f"{name} has several registration entries, and their labels differ")
        return found[0]
