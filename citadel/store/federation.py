"""The bundles of foreign trust domains. Contract: ca.ports.FederationStore."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from citadel.audit import AuditEvent, canonical
from citadel.ca.model import TrustBundle
from citadel.changes import Topic
from citadel.errors import AlreadyExists, FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from citadel.store.authorities import bundle_of, bundle_values
from citadel.store.entries import federating
from citadel.store.ledger import Ledger
from citadel.store.tables import BundleRow

_B: Any = BundleRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it


class SqlFederationStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def put_federated(self, bundle: TrustBundle, audit: AuditEvent, *, present: bool | None) -> TrustBundle:
        name = bundle.trust_domain.name
        async with self._ledger.writing() as transaction:
            await transaction.one_at_a_time("bundles")
            row = await transaction.first(select(_B).where(_B.c.trust_domain == name))
            if row is not None and present is False:
                raise AlreadyExists(f"there is a bundle of {name} already", mend="update it, or set it")
            if row is None and present is True:
                raise NotFound(f"there is no bundle of {name}")
            old = None if row is None else bundle_of(row)
            if old is not None and old == replace(bundle, sequence=old.sequence) and bundle.sequence <= old.sequence:
                return old
            new = replace(bundle, sequence=max(bundle.sequence, 1 + (old.sequence if old else 0)))
            values = bundle_values(new)
            statement = insert(_B).values(values) if old is None else update(_B).where(_B.c.trust_domain == name)
            await transaction.connection.execute(statement if old is None else statement.values(values))
            transaction.bodies.append(canonical(audit))
            transaction.topics.add(Topic.BUNDLES)
        return new

    async def delete_federated(self, trust_domain: TrustDomain, audit: AuditEvent) -> None:
        async with self._ledger.writing(audit, topics=[Topic.BUNDLES]) as transaction:
            await transaction.one_at_a_time("entries")  # none that federates with it is made meanwhile
            count = await transaction.first(select(func.count()).select_from(federating(trust_domain).subquery()))
            if count is not None and count[0]:
                raise FailedPrecondition(
                    f"{count[0]} entries federate with {trust_domain}",
                    mend="delete or dissociate them (the mode of BatchDeleteFederatedBundle)",
                )
            gone = await transaction.connection.execute(delete(_B).where(_B.c.trust_domain == trust_domain.name))
            if gone.rowcount != 1:
                raise NotFound(f"there is no bundle of {trust_domain}")
