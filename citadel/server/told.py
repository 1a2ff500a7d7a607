"""What each room is told of the settings: those values of it that are not parts."""

from __future__ import annotations

from datetime import timedelta

from citadel.api.admin.access import AccessRules
from citadel.authz import ExtensionProvider, MeshFacts, PathNormalization, ProviderProtocol
from citadel.ca.authorities import AuthorityPolicy
from citadel.ca.issuer import IssuancePolicy
from citadel.ca.keys import KeyType
from citadel.ca.rotation import RotationPolicy
from citadel.config import Settings
from citadel.config.providers import ProviderSettings
from citadel.jobs import standard as standard_jobs
from citadel.quiet_hours import QuietHours
from citadel.registry import RegistryPolicy


def authority_policy(settings: Settings) -> AuthorityPolicy:
    """For ca.authorities."""
    return AuthorityPolicy(
        settings.ca.ttl,
        settings.svid.max_ttl,
        KeyType(settings.ca.key_type),
        int(settings.bundle.refresh_hint.total_seconds()),
        renew_at=settings.rotation.schedule.issuing_at,
        quiet=QuietHours(settings.rotation.schedule.quiet_hours, settings.rotation.schedule.time_zone),
    )


def issuance_policy(settings: Settings) -> IssuancePolicy:
    """For ca.issuer."""
    return IssuancePolicy(
        default_ttl=settings.svid.default_ttl,
        longest_ttl=settings.svid.max_ttl,
        shortest=min(timedelta(seconds=10), settings.svid.min_ttl),
        backdate=settings.svid.backdate,
    )


def rotation_policy(settings: Settings) -> RotationPolicy:
    """For ca.rotation."""
    keep = settings.rotation
    return RotationPolicy(
        reconnect_window=keep.reconnect_window,
        grace=keep.grace,
        assumed_after=keep.assumed_after,
        session_life=keep.session_life,
        emergency_gate=keep.emergency_gate,
        clock_skew=keep.clock_skew,
        approval=keep.approval,
        plugged_by_itself=keep.plugged == "automatic",
        quiet=QuietHours(keep.schedule.quiet_hours, keep.schedule.time_zone),
    )


def registry_policy(settings: Settings) -> RegistryPolicy:
    """For the registry."""
    return RegistryPolicy(settings.svid.min_ttl, settings.svid.max_ttl)


def access_rules(settings: Settings) -> AccessRules:
    """For the admin socket."""
    admin = settings.sockets.admin
    return AccessRules(frozenset(admin.allow_uids), frozenset(admin.allow_gids))


def retention(settings: Settings) -> standard_jobs.Retention:
    """For the job that prunes."""
    keep = settings.retention
    return standard_jobs.Retention(keep.issuance, keep.clients, keep.audit, keep.batch)


def mesh_facts(settings: Settings) -> MeshFacts:
    """For everything that decides by policies."""
    told = settings.authorization
    return MeshFacts(
        settings.trust_domain,
        aliases=told.trust_domain_aliases,
        root_namespace=told.root_namespace,
        path_normalization=PathNormalization(told.path_normalization),
        trusted_proxies=told.trusted_proxies,
        providers=tuple(map(_provider, told.providers)),
        several_providers=told.several_providers,
    )


def _provider(told: ProviderSettings) -> ExtensionProvider:
    return ExtensionProvider(
        told.name,
        ProviderProtocol(told.protocol),
        told.host,
        told.port,
        told.timeout,
        told.path_prefix,
        told.status_on_error,
        told.include_request_headers_in_check,
        tuple(told.include_additional_headers_in_check.items()),
        told.headers_to_upstream_on_allow,
        told.headers_to_downstream_on_allow,
        told.headers_to_downstream_on_deny,
    )
