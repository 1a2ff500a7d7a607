"""Istio's three security documents as values: right by construction, equal by content, ignorant of files.

Field names follow `security.istio.io/v1` (istio.io/latest/docs/reference/config/security), in Python's spelling. Lists
are tuples in the order written. Strings are as written unless said otherwise; what they match is the evaluator's
business. `load` makes these values and refuses what Istio refuses; a policy that is built by hand is not validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from ipaddress import IPv4Network, IPv6Network

IpBlock = IPv4Network | IPv6Network


class Kind(StrEnum):
    """The kinds of `security.istio.io` that we know."""

    AUTHORIZATION_POLICY = "AuthorizationPolicy"
    REQUEST_AUTHENTICATION = "RequestAuthentication"
    PEER_AUTHENTICATION = "PeerAuthentication"


class Action(StrEnum):
    """What an AuthorizationPolicy does when it matches (authorization-policy, "Action")."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, order=True)
class PolicyName:
    """A document's name in its namespace; unique within a kind. Written `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a document says of itself."""

    name: PolicyName
    created_at: datetime | None = None
    """`metadata.creationTimestamp`, in UTC; "the oldest wins" reads it. None: not written."""
    silenced: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Lint codes that the annotation `citadel/lint-ignore` silences for this document; no part of what it means."""


class TargetKind(Enum):
    """What `targetRefs` may name: (API group, kind). The core group is the empty string."""

    GATEWAY = ("gateway.networking.k8s.io", "Gateway")
    GATEWAY_CLASS = ("gateway.networking.k8s.io", "GatewayClass")
    SERVICE = ("", "Service")
    SERVICE_ENTRY = ("networking.istio.io", "ServiceEntry")


@dataclass(frozen=True, slots=True)
class TargetRef:
    """A Gateway, GatewayClass, Service or ServiceEntry that a policy is attached to, in the policy's namespace.

    A GatewayClass has no namespace; a policy that names one counts in the root namespace only.
    """

    kind: TargetKind
    name: str


@dataclass(frozen=True, slots=True)
class WorkloadSelector:
    """The labels that a workload must carry, each with just this value; sorted by label. Empty: any workload."""

    match_labels: tuple[tuple[str, str], ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(label) == value for label, value in self.match_labels)


class Attribute(StrEnum):
    """What a `when` condition may look at: its key without brackets (reference/config/security/conditions)."""

    REQUEST_HEADERS = "request.headers"
    SOURCE_IP = "source.ip"
    REMOTE_IP = "remote.ip"
    SOURCE_NAMESPACE = "source.namespace"
    SOURCE_SERVICE_ACCOUNT = "source.serviceAccount"
    SOURCE_PRINCIPAL = "source.principal"
    SOURCE_TRUST_DOMAIN = "source.trustDomain"
    REQUEST_PRINCIPAL = "request.auth.principal"
    REQUEST_AUDIENCES = "request.auth.audiences"
    REQUEST_PRESENTER = "request.auth.presenter"
    REQUEST_CLAIMS = "request.auth.claims"
    DESTINATION_IP = "destination.ip"
    DESTINATION_PORT = "destination.port"
    CONNECTION_SNI = "connection.sni"
    ENVOY_FILTERS = "experimental.envoy.filters"

    @property
    def http_only(self) -> bool:
        """Whether it has no meaning on a TCP connection: a rule narrows or widens there."""
        return self.value.startswith("request.")


@dataclass(frozen=True, slots=True)
class ConditionKey:
    """A condition's key, read.

    `path` is what stands in brackets: for `request.headers[N]` the header's name in lower case; for
    `request.auth.claims[a][b]` the claim and the names inside it; for `experimental.envoy.filters.F[key]` the filter's
    whole name (`envoy.filters.F`) and one key of its metadata. Empty for all others.
    """

    attribute: Attribute
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.attribute is Attribute.ENVOY_FILTERS:
            return f"experimental.{self.path[0]}[{self.path[1]}]"
        return self.attribute.value + "".join(f"[{part}]" for part in self.path)


@dataclass(frozen=True, slots=True)
class Condition:
    """One of a rule's `when`: the attribute has one of `values` (if there are any), and none of `not_values`.

    Values of `source.ip`, `remote.ip` and `destination.ip` are networks in canonical form (`10.0.0.0/8`; a single
    address has /32 or /128, bits behind the prefix are zero); of `destination.port` decimal numbers without leading
    zeros; of `source.serviceAccount` always `namespace/name`. All others are as written; for
    `experimental.envoy.filters.*`, a value in brackets, `[v]`, is meant for the elements of a list.
    """

    key: ConditionKey
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Who calls (`rules[].from[].source`). Fields are ANDed, the values of one field are ORed.

    An empty field says nothing. `not_X` means that none of its values matches, and holds if the attribute is missing.
    """

    principals: tuple[str, ...] = ()
    """Peer SPIFFE IDs without `spiffe://`: exact, `abc*`, `*abc`, or `*` (any authenticated peer)."""
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    """`iss/sub` of the verified JWT."""
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """The `/ns/…/` segment of the peer's ID; `*` anywhere."""
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    """Always `namespace/name`; a bare name was completed with the policy's namespace. No wildcards."""
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    """The trust domain of the peer's ID: exact, `abc*`, `*abc`, `*`."""
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[IpBlock, ...] = ()
    """The direct peer's address."""
    not_ip_blocks: tuple[IpBlock, ...] = ()
    remote_ip_blocks: tuple[IpBlock, ...] = ()
    """The original client's address (X-Forwarded-For behind trusted hops, or PROXY protocol)."""
    not_remote_ip_blocks: tuple[IpBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What is called (`rules[].to[].operation`). Fields are ANDed, the values of one field are ORed."""

    hosts: tuple[str, ...] = ()
    """`:authority`, without regard to case, port included: exact, `abc*`, `*abc`, `*` (present)."""
    not_hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    """The workload's port, 0 to 65535."""
    not_ports: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    """`:method`, case-sensitive."""
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """The normalised path without query: exact, `abc*`, `*abc`, `*`, or a template with `{*}` and `{**}`."""
    not_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """(any of `sources`, or there are none) and (any of `operations`, or there are none) and all of `conditions`."""

    sources: tuple[Source, ...] = ()
    """`from`"""
    operations: tuple[Operation, ...] = ()
    """`to`"""
    conditions: tuple[Condition, ...] = ()
    """`when`"""


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """Matches if any of its rules does; without rules never (reference/config/security/authorization-policy)."""

    metadata: Metadata
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] = ()
    provider: str | None = None
    """The extension provider that is asked; set if and only if `action` is CUSTOM."""
    selector: WorkloadSelector | None = None
    """None: every workload of the namespace, or of the mesh in the root namespace. Never with `target_refs`."""
    target_refs: tuple[TargetRef, ...] = ()
    """Gateways and waypoints, or services behind them; any of them (`targetRefs`, or the older `targetRef`)."""
    dry_run: bool = False
    """Annotation `istio.io/dry-run`: evaluated and reported, never enforced; ALLOW and DENY only."""

    kind = Kind.AUTHORIZATION_POLICY

    @property
    def name(self) -> PolicyName:
        return self.metadata.name


@dataclass(frozen=True, slots=True)
class HeaderLocation:
    """A header that carries a token, behind `prefix` (`"Bearer "`, say), which may be empty."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ClaimToHeader:
    """A claim (nested with dots; string, integer or boolean) that is copied to a request header."""

    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class JwtRule:
    """How one issuer's tokens are found and verified (reference/config/security/request_authentication, JWTRule)."""

    issuer: str = ""
    """The `iss` that is accepted; empty (any) only with `jwks_uri`."""
    audiences: tuple[str, ...] = ()
    """Any one of them must be in `aud`; empty: not checked."""
    jwks_uri: str = ""
    """Where the keys are. Without this and `jwks`: OpenID discovery at the issuer."""
    jwks: str = ""
    """The keys themselves, a JSON Web Key Set as text; never together with `jwks_uri`."""
    from_headers: tuple[HeaderLocation, ...] = ()
    from_params: tuple[str, ...] = ()
    """Query parameters that carry a token."""
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    """Header that the verified payload is passed on in, base64url; empty: none."""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: timedelta | None = None
    """For fetching the keys; None: the default of five seconds."""
    space_delimited_claims: tuple[str, ...] = ()
    """Claims, besides `scope` and `permission`, whose strings are lists separated by spaces."""


@dataclass(frozen=True, slots=True)
class RequestAuthentication:
    """Which tokens are accepted; all that apply are merged. A missing token passes, a bad one is a 401."""

    metadata: Metadata
    jwt_rules: tuple[JwtRule, ...] = ()
    selector: WorkloadSelector | None = None
    target_refs: tuple[TargetRef, ...] = ()

    kind = Kind.REQUEST_AUTHENTICATION

    @property
    def name(self) -> PolicyName:
        return self.metadata.name


class MtlsMode(StrEnum):
    """What a port accepts: UNSET inherits; PERMISSIVE both mTLS and plaintext; STRICT mTLS; DISABLE plaintext."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True)
class PeerAuthentication:
    """How peers must connect: workload over namespace over mesh, the oldest within a level."""

    metadata: Metadata
    mtls: MtlsMode = MtlsMode.UNSET
    port_level_mtls: tuple[tuple[int, MtlsMode], ...] = field(default=())
    """By workload port, sorted; only with a selector that has labels."""
    selector: WorkloadSelector | None = None

    kind = Kind.PEER_AUTHENTICATION

    @property
    def name(self) -> PolicyName:
        return self.metadata.name


Document = AuthorizationPolicy | RequestAuthentication | PeerAuthentication
