"""What a server finds wrong with itself, told by `/readyz` and `status`."""

from __future__ import annotations

from collections.abc import Callable

from citadel.authz.sources import PolicySource
from citadel.ca.authorities import Authorities
from citadel.config import Settings
from citadel.errors import FailedPrecondition, Unavailable
from citadel.server.vault import lasts
from citadel.telemetry.health import Health, Severity
from citadel.vault import Session
from citadel.workload.outage import Outage


def authority_checks(health: Health, authorities: Authorities, outage: Callable[[], Outage | None]) -> None:
    """Whether certificates can be signed, and whether those of the workloads are renewed."""

    async def can_sign() -> None:
        authorities.current()

    async def renews() -> None:
        if (now := outage()) is not None:
            raise Unavailable(now.sentence())

    health.add("issuing-ca", can_sign, severity=Severity.UNREADY)
    health.add("renewals", renews, severity=Severity.WARNING)


def vault_checks(health: Health, vault: Session, settings: Settings, authorities: Authorities) -> None:
    """Warn only: what we hold, or workloads do, goes on. How long, is part of what is said."""

    async def answers() -> None:
        standing = vault.status()
        if standing.fault:
            raise Unavailable(f"{standing.fault} (since {standing.since:%Y-%m-%dT%H:%M:%SZ}); {lasts(authorities)}")
        if settings.root.kind == "vault" and authorities.plugged_fault:
            raise Unavailable(f"{authorities.plugged_fault}; {lasts(authorities)}")

    health.add("vault", answers, severity=Severity.WARNING)


def policy_checks(health: Health, source: PolicySource) -> None:
    """Whether there is a set to decide by, and whether it is what its source says now."""

    async def decides() -> None:
        """The first read may still be under way: then everything is denied."""
        if source.policies is None:
            raise Unavailable("there is no good set of policies yet, and every check is denied")

    async def follows() -> None:
        if source.fault:
            raise FailedPrecondition(source.fault)

    health.add("policies", decides, severity=Severity.UNREADY)
    health.add("policy-source", follows, severity=Severity.WARNING)


__all__ = ["authority_checks", "policy_checks", "vault_checks"]
