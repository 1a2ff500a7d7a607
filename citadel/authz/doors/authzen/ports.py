"""What the AuthZEN door needs from around it."""

from __future__ import annotations

from typing import Protocol

from citadel.authz.request import Workload
from citadel.spiffe import SpiffeId, TrustDomain


class Workloads(Protocol):
    """Knows the workloads of the mesh by name. Implementation: server.authzen, over the registry."""

    async def find(self, name: SpiffeId) -> Workload:
        """Raises NotFound (nobody is registered by this name), FailedPrecondition (several are, and their policies may
        differ), Unavailable."""

    def trust_domains(self) -> frozenset[TrustDomain]:
        """Whose identities count."""
