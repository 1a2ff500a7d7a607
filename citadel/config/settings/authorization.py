"""`[authorization]`: where the policies come from, how they are read, and who is asked besides."""

from __future__ import annotations

from typing import Literal

from citadel.config.providers import ExtensionProviders
from citadel.config.settings.authzen import AuthzenSettings
from citadel.config.settings.decision_log import DecisionLogSettings
from citadel.config.settings.ext_authz import ExtAuthzHttpSettings, ExtAuthzSettings
from citadel.config.settings.section import Section, setting
from citadel.config.values import HeaderLines, HostNames, Networks, OptionalPath, SpiffeIds, TrustDomainNames

_NAMESPACE = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\z"


class AuthorizationKeysSettings(Section):
    """Where keys of token issuers may be fetched (`jwksUri`, OpenID discovery). See docs/authorization-tokens.md."""

    plain_http_hosts: HostNames = setting(
        [], "Hosts, without port, that may be asked without TLS. All others are asked by https only."
    )
    refused_networks: Networks = setting(
        ["127.0.0.0/8", "::1/128"],
        "Networks in which nobody is asked for keys. Besides, always: link-local, multicast, reserved, cloud metadata.",
    )


class AuthorizationSettings(Section):
    """Who may call what, by Istio's policies: see docs/authorization-doors.md."""

    source: Literal["files", "store"] = setting(
        "files",
        "Where the policies come from: `files`, those in `policies`; `store`, those that `citadel policy apply` put "
        "into the database. One or the other, never both.",
    )
    policies: OptionalPath = setting(
        "", "The file or folder of policies that is followed. Empty: every check is denied as `not-loaded`."
    )
    trust_domain_aliases: TrustDomainNames = setting(
        [], "Other names of the trust domain: principals of one of them mean the same workload in all."
    )
    root_namespace: str = setting(
        "istio-system", "Policies of this namespace apply to all namespaces.", pattern=_NAMESPACE
    )
    default_namespace: str = setting(
        "default",
        "The namespace of documents that have none, and of workloads whose SPIFFE ID is not `/ns/NAMESPACE/...`.",
        pattern=_NAMESPACE,
    )
    path_normalization: Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = setting(
        "DECODE_AND_MERGE_SLASHES",
        "How paths are normalised before they are matched, in Istio's names. It must be what your listeners do; those "
        "that Citadel generates do the default.",
    )
    trusted_proxies: int = setting(
        0,
        "How many proxies of yours stand before the Envoy that asks: the client's address is taken from as far back in "
        "`X-Forwarded-For`. 0: it is that of the direct peer.",
        ge=0,
        le=100,
    )
    claims_from: SpiffeIds = setting(
        [],
        "SPIFFE IDs of the local proxies whose dynamic metadata counts: the claims of tokens that they have verified "
        "(`envoy.filters.http.jwt_authn`), and `experimental.envoy.filters.*`. If there is a token in the request as "
        "well, only that counts, and is verified here.",
    )
    path_normalized: bool = setting(
        False,
        "Whether all listeners that ask have normalised the path already. Then a path that they cannot have left is "
        "refused, instead of being normalised once more.",
    )
    denial_headers: HeaderLines = setting(
        [],
        "Headers for the client whose request is denied, such as `x-denied-by: {policy}`; `{reason}`, `{policy}`, "
        "`{id}` (of the decision) and `{version}` (of the policies) are filled in.",
    )
    providers: ExtensionProviders = setting(
        [],
        "Whom CUSTOM policies ask, a table `[[authorization.providers]]` for each: see docs/authorization-doors.md. A "
        "policy that names another one denies what it matches.",
    )
    several_providers: bool = setting(
        False,
        "Whether CUSTOM policies of one workload may name different providers, all of which must allow. Otherwise, as "
        "in Istio, such policies deny what they match.",
    )
    keys: AuthorizationKeysSettings
    authzen: AuthzenSettings
    tcp: ExtAuthzSettings
    decision_log: DecisionLogSettings
    http: ExtAuthzHttpSettings
