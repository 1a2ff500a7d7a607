"""The policies that a server follows: where they come from, and how they stand."""

from __future__ import annotations

from collections.abc import Sequence

from citadel.api.ports import PolicyView
from citadel.audit import AuditEvent, JsonScalar
from citadel.audit.ports import OwnChain
from citadel.authz.sources import FolderOrigin, Held, KeptPolicies, Origin, PolicySource, kept_in, take_along
from citadel.authz.stored import StoredPolicies, StoreOrigin
from citadel.clock import Clock
from citadel.config import Change, Settings
from citadel.errors import FailedPrecondition
from citadel.server.told import mesh_facts
from citadel.store import Store
from citadel.telemetry.metrics import Metrics

_DENIED_UNTIL = "until you apply the first set, every check is denied, and it is not ready"


def policy_source(settings: Settings, store: Store, clock: Clock, meter: Metrics) -> PolicySource | None:
    """What follows the configured folder, or the store; None if no policies are configured."""
    told = settings.authorization
    origin: Origin
    if told.source == "store":
        origin = StoreOrigin(store.policies, store.changes)
    elif told.policies is not None:
        origin = FolderOrigin(told.policies)
    else:
        return None
    take_along(settings.data_dir)
    kept = KeptPolicies(kept_in(settings.data_dir))
    return PolicySource(
        origin, mesh_facts(settings), kept, clock, default_namespace=told.default_namespace, meter=meter
    )


def stored_policies(settings: Settings, store: Store, clock: Clock) -> StoredPolicies:
    """What changes the policies in the store."""
    told = settings.authorization
    return StoredPolicies(store.policies, mesh_facts(settings), clock, default_namespace=told.default_namespace)


class FollowedSource:
    """What the admin services see of the source. Contract: api.ports.FollowedPolicies."""

    def __init__(self, source: PolicySource | None, settings: Settings, chain: OwnChain, clock: Clock) -> None:
        self._source = source
        self._told = settings.authorization
        self._chain = chain
        self._clock = clock
        self.pending: Sequence[Change] = ()
        """What differs in the configuration, and waits for a restart."""

    @property
    def fault(self) -> str:
        return "" if self._source is None else self._source.fault

    def must_be_the_store(self) -> None:
        if self._told.source != "store":
            there = f"from {self._told.policies}" if self._told.policies else "from nowhere"
            until = "what is in force stays so until you apply" if self._told.policies else _DENIED_UNTIL
            written = any((one.field, one.new) == ("authorization.source", "store") for one in self.pending)
            begin = "restart it" if written else 'set authorization.source = "store", and restart it'
            raise FailedPrecondition(
                f"this Citadel takes its policies {there}, not from the store"
                f"{', until it is restarted: the changed authorization.source waits for that' if written else ''}",
                mend=f"{begin}: {until}",
            )

    async def reached(self, version: str, timeout: float) -> bool:
        return self._source is not None and await self._source.reached(version, timeout)

    async def confirm(self, version: str, actor: str) -> PolicyView:
        """Raises NotFound, FailedPrecondition, PermissionDenied, Unavailable."""
        if self._source is None:
            raise FailedPrecondition("no policies are configured", mend="set authorization.policies or .source")

        async def record(held: Held) -> None:
            detail: dict[str, JsonScalar] = {"documents": len(held.documents), "why": held.why, "source": self._where()}
            await self._chain.record(AuditEvent(self._clock.now(), actor, "policy.confirm", held.version, detail))

        await self._source.confirm(version, record)
        view = self.view()
        assert view is not None
        return view

    def _where(self) -> str:
        return "" if self._source is None else self._source.where

    def view(self) -> PolicyView | None:
        """For `status`; None: no policies are configured."""
        source = self._source
        if source is None:
            return None
        now, held = source.in_force, source.held
        return PolicyView(
            source=source.where,
            version="" if now is None else now.policies.version,
            documents=0 if now is None else len(now.documents),
            since=None if now is None else now.since,
            restored=now is not None and now.restored,
            stored_version=f"v{now.number}" if now is not None and now.number else "",
            fault=source.fault,
            held_version="" if held is None else held.version,
            held_documents=0 if held is None else len(held.documents),
            held_why="" if held is None else held.why,
        )
