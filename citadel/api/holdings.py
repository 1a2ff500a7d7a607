"""What clients hold, as rotation counts it: from the store's records of what they acknowledged."""

from __future__ import annotations

from citadel.ca.model import Skid
from citadel.ca.rotation import Holding
from citadel.spiffe import TrustDomain
from citadel.store.ports import ClientHolding, ClientStore


class Holdings:
    """Contract: ca.rotation.ports.ClientRecord."""

    def __init__(self, clients: ClientStore, trust_domain: TrustDomain) -> None:
        self._clients = clients
        # Names of SDS under which our own bundle is served (shared specification of protocols).
        self._bundles = frozenset({"ROOTCA", "ALL", f"spiffe://{trust_domain}"})
        self._ours = f"spiffe://{trust_domain}/"

    async def holdings(self) -> list[Holding]:
        return [self._holding(one) for one in await self._clients.all() if self._counts(one.resource)]

    def _counts(self, resource: str) -> bool:
        """Not what has nothing to do with our root: other domains' bundles, and secrets that are files."""
        return resource in self._bundles or resource == "default" or resource.startswith(self._ours)

    def _holding(self, one: ClientHolding) -> Holding:
        return Holding(
            node=one.node,
            client=one.client,
            resource=one.resource,
            is_bundle=one.resource in self._bundles,
            at=one.at,
            last=one.kind,
            sequence=one.sequence,
            authority=Skid(one.authority) if one.authority else None,
            not_after=one.not_after,
            spiffe_id=one.spiffe_id,
            nack_detail=one.nack_detail,
            unanswered_since=one.unanswered_since,
        )
