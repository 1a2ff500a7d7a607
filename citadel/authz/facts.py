"""What a mesh knows of itself and a policy does not say: one value, given to the compiler with the policies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from citadel.spiffe import TrustDomain

DEFAULT_ROOT_NAMESPACE = "istio-system"
STANDARD_SPACE_DELIMITED_CLAIMS = frozenset({"scope", "permission"})


class PathNormalization(StrEnum):
    """How a path is normalised before it is matched (MeshConfig.ProxyPathNormalization; BASE is what DEFAULT means)."""

    NONE = "NONE"
    BASE = "BASE"
    """Dot segments, backslashes and percent-encoded unreserved characters."""
    MERGE_SLASHES = "MERGE_SLASHES"
    """BASE, and runs of slashes become one."""
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"
    """%2F and %5C are decoded first, then MERGE_SLASHES. Generated listeners do this."""


class ProviderProtocol(StrEnum):
    GRPC = "grpc"
    """envoy.service.auth.v3.Authorization/Check"""
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class ExtensionProvider:
    """An external authorizer that CUSTOM policies name (MeshConfig.ExtensionProvider, `envoyExtAuthz{Grpc,Http}`).

    It fails closed, always: `failOpen` has no counterpart here.
    """

    name: str
    protocol: ProviderProtocol
    service: str
    """Host name, or `namespace/host`."""
    port: int
    timeout: timedelta = timedelta(milliseconds=600)
    path_prefix: str = ""
    """HTTP only: put before the path of the check."""
    status_on_error: int = 503
    """What the client gets when the provider fails. Not Istio's 403: an outage is not to look like a decision."""
    include_request_headers_in_check: tuple[str, ...] = ()
    """HTTP only: exact, `abc*`, `*abc`."""
    include_additional_headers_in_check: tuple[tuple[str, str], ...] = ()
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    max_request_bytes: int = 0
    """Bytes of the body that the provider is sent; 0: none."""
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class MeshFacts:
    """The mesh around the policies (MeshConfig)."""

    trust_domain: TrustDomain
    aliases: tuple[TrustDomain, ...] = ()
    """`trustDomainAliases`: principals of one of these domains mean the same workload in all of them."""
    root_namespace: str = DEFAULT_ROOT_NAMESPACE
    """Policies here apply to every namespace."""
    path_normalization: PathNormalization = PathNormalization.BASE
    providers: tuple[ExtensionProvider, ...] = ()
    """By name; a CUSTOM policy that names another one denies what it matches."""
    space_delimited_claims: frozenset[str] = STANDARD_SPACE_DELIMITED_CLAIMS
    """Claims whose string value is split on spaces."""
    trusted_proxies: int = 0
    """`numTrustedProxies`: how many entries at the end of X-Forwarded-For were written by proxies of ours."""

    several_providers: bool = False
    """Extension: CUSTOM policies of one workload may name different providers, all of which must allow (Istio:
    `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS`). Without it, what they match is denied."""

    @property
    def domains(self) -> tuple[TrustDomain, ...]:
        """The mesh's own trust domain, under all of its names."""
        return (self.trust_domain, *self.aliases)

    def provider(self, name: str) -> ExtensionProvider | None:
        return next((one for one in self.providers if one.name == name), None)
