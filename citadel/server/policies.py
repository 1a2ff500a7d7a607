"""The policies that a server follows: where they come from, and how they stand."""

from __future__ import annotations

from citadel.api.ports import PolicyView
from citadel.authz.sources import KeptPolicies, PolicySource
from citadel.clock import Clock
from citadel.config import Settings
from citadel.server.told import mesh_facts
from citadel.telemetry.metrics import Metrics


def policy_source(settings: Settings, clock: Clock, meter: Metrics) -> PolicySource | None:
    """What follows the configured folder; None if none is configured."""
    told = settings.authorization
    if told.policies is None:
        return None
    kept = KeptPolicies(settings.data_dir / "policies" / "last-good.json")
    return PolicySource(
        told.policies, mesh_facts(settings), kept, clock, default_namespace=told.default_namespace, meter=meter
    )


def policy_view(source: PolicySource) -> PolicyView:
    """For `status`."""
    now, held = source.in_force, source.held
    return PolicyView(
        source=str(source.path),
        version="" if now is None else now.policies.version,
        documents=0 if now is None else len(now.documents),
        since=None if now is None else now.since,
        restored=now is not None and now.restored,
        fault=source.fault,
        held_version="" if held is None else held.version,
        held_documents=0 if held is None else len(held.documents),
        held_why="" if held is None else held.why,
    )
