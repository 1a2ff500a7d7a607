"""What a server finds wrong with itself, told by `/readyz` and `status`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from citadel.authz.sources import PolicySource
from citadel.authz.tokens import CachedKeys
from citadel.ca.authorities import Authorities
from citadel.ca.kek_place import KekPlace
from citadel.ca.kek_ring import KekRing
from citadel.clock import Clock
from citadel.config import Settings, trusted_files
from citadel.errors import FailedPrecondition, Unavailable
from citadel.folders import open_to_everybody
from citadel.server.own_certificate import OwnCertificate
from citadel.server.vault import lasts
from citadel.telemetry.health import Health, Severity
from citadel.vault import Session, VaultWatch
from citadel.workload.outage import Outage

_TOLD = 3


def authority_checks(health: Health, authorities: Authorities, outage: Callable[[], Outage | None]) -> None:
    """Whether certificates can be signed, and whether those of the workloads are renewed."""

    async def can_sign() -> None:
        authorities.current()

    async def renews() -> None:
        if (now := outage()) is not None:
            raise Unavailable(now.sentence())

    health.add("issuing-ca", can_sign, severity=Severity.UNREADY)
    health.add("renewals", renews, severity=Severity.WARNING)


def key_check(health: Health, keks: KekPlace, held: KekRing) -> None:
    """Whether the next start could open what is sealed: by the key that lies there now, not by the one in memory."""

    async def opens() -> None:
        there = await asyncio.to_thread(keks.load)
        if not there.holds(held.id):
            raise FailedPrecondition(
                "the key-encryption key that lies there is not the one in use: the next start will open no key",
                mend="put the old one back; a new one comes by: citadel keys rekey",
            )

    health.add("kek", opens, severity=Severity.WARNING)


def trusted_files_check(health: Health, settings: Settings) -> None:
    """Whether everybody may change what is believed: policies, entities, the CAs of clients. Told, and not refused:
    whether a volume is shared with anybody (an emptyDir, mode 0777), only its owner knows."""

    def look() -> list[str]:
        return [
            f"{weakness.path} ({setting}) {weakness.why}"
            for setting, path in trusted_files(settings).items()
            for weakness in open_to_everybody(path)[:_TOLD]
        ]

    async def only_theirs() -> None:
        if found := await asyncio.to_thread(look):
            raise FailedPrecondition(
                f"what Citadel believes can be changed by everybody: {', '.join(found)}", mend="run: citadel doctor"
            )

    health.add("trusted-files", only_theirs, severity=Severity.WARNING)


def vault_checks(health: Health, vault: Session, settings: Settings, authorities: Authorities) -> None:
    """Warn only: what we hold, or workloads do, goes on. How long, is part of what is said."""

    async def answers() -> None:
        standing = vault.status()
        if standing.fault:
            raise Unavailable(f"{standing.fault} (since {standing.since:%Y-%m-%dT%H:%M:%SZ}); {lasts(authorities)}")
        if settings.root.kind == "vault" and authorities.plugged_fault:
            raise Unavailable(f"{authorities.plugged_fault}; {lasts(authorities)}")

    health.add("vault", answers, severity=Severity.WARNING)


def vault_watch_check(health: Health, watch: VaultWatch) -> None:
    """Warns only: what stops something is told by what then does not work, too."""

    async def unchanged() -> None:
        if found := watch.findings():
            more = f"; and {len(found) - _TOLD} more: citadel vault status" if len(found) > _TOLD else ""
            raise FailedPrecondition("; ".join(str(one.finding) for one in found[:_TOLD]) + more)

    health.add("vault-findings", unchanged, severity=Severity.WARNING)


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


def token_key_check(health: Health, keys: CachedKeys) -> None:
    """Whether the keys of all token issuers could be had: without them tokens are refused, or an old copy is used."""

    async def had() -> None:
        if problems := keys.problems():
            told = "; ".join(f"{issuer}: {problem}" for issuer, problem in sorted(problems.items())[:_TOLD])
            raise Unavailable(f"keys of token issuers could not be had: {told}")

    health.add("token-keys", had, severity=Severity.WARNING)


def certificate_check(health: Health, certificate: OwnCertificate, clock: Clock) -> None:
    """Whether the server has a certificate to show, with some time left."""

    async def valid() -> None:
        if certificate.current is None or certificate.current.not_after <= clock.now():
            raise Unavailable("there is no certificate to serve ext_authz over TCP with; the log says why")

    health.add("server-certificate", valid, severity=Severity.WARNING)


__all__ = [
    "authority_checks",
    "certificate_check",
    "key_check",
    "policy_checks",
    "token_key_check",
    "vault_checks",
    "vault_watch_check",
]
