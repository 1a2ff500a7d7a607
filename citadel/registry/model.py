"""Registration entries as values: who may be whom (SPIRE's shape)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True)
class Entry:
    """A workload that has all of `selectors`, on a node below `parent_id`, may be `spiffe_id`.

    `x509_ttl` and `jwt_ttl` of zero mean the server's default. `revision` counts from 0 and grows with each change.
    `apply_set` names the declarative set that the entry belongs to; empty: made by hand. `dns_names` are in order,
    the first one leads. Only registry.validate makes one from what a user says.
    """

    id: str  # UUID, or what its maker chose: 1 to 255 of [A-Za-z0-9._-]
    spiffe_id: SpiffeId
    parent_id: SpiffeId
    selectors: frozenset[Selector]
    x509_ttl: timedelta = timedelta(0)
    jwt_ttl: timedelta = timedelta(0)
    dns_names: tuple[str, ...] = ()
    federates_with: frozenset[TrustDomain] = frozenset()
    hint: str = ""
    admin: bool = False
    downstream: bool = False
    store_svid: bool = False
    expires_at: datetime | None = None
    revision: int = 0
    created_at: datetime | None = None  # set by the store
    apply_set: str = ""
    labels: tuple[tuple[str, str], ...] = ()  # sorted; what policies select workloads by
