"""What a door needs of the node that it stands on: who asks, and who counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from citadel.authz.request import Workload, WorkloadKind
from citadel.spiffe import SpiffeId, TrustDomain

#: Istio puts this on the proxies that it makes for a Gateway of the Kubernetes Gateway API.
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


@dataclass(frozen=True)
class Registered:
    """A registration entry that the caller was attested for."""

    spiffe_id: SpiffeId
    labels: Mapping[str, str]
    federates_with: frozenset[TrustDomain] = frozenset()

    @cached_property
    def namespace(self) -> str:
        """Of an ID `/ns/NAMESPACE/…`; empty for others."""
        segments = self.spiffe_id.path.split("/")
        return segments[2] if len(segments) > 2 and segments[1] == "ns" else ""

    def workload(self, default_namespace: str) -> Workload:
        known = self._workload
        if known.namespace or not default_namespace:
            return known
        return replace(known, namespace=default_namespace)

    @cached_property
    def _workload(self) -> Workload:
        """Of its own namespace, if it has one."""
        gateway = self.labels.get(GATEWAY_NAME, "")
        kind = WorkloadKind.GATEWAY if gateway else WorkloadKind.WORKLOAD
        return Workload(self.namespace, self.labels, kind, gateway)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as attested; not what it says of itself."""

    name: str
    """For the log: `pid 4711 uid 1000`."""
    entries: tuple[Registered, ...]
    """All that it is registered as, the oldest first."""
    trust_domains: frozenset[TrustDomain]
    """Whose certificates it can verify: its own trust domain, and those that its entries federate with. Of several
    entries, those of the one that is meant count (`whose.Whose`)."""
    local: bool = True
    """It is a process on this machine, which the node attested; not somebody over the network."""


class Connection(Protocol):
    """What gRPC knows of who is at the other end (grpc.aio.ServicerContext)."""

    def peer(self) -> str: ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


class Callers(Protocol):
    """Who is at the other end of a connection. Implementations: agent.py, over workload.callers; doors.remote."""

    async def caller(self, connection: Connection) -> Caller:
        """The caller at the other end. Cheap for all but the first call of a connection.

        Raises PermissionDenied if it cannot be named or is not who it was, ResourceExhausted past its quota,
        Unavailable while nobody's registration is known."""
