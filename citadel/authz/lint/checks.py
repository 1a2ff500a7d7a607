"""Every check of the linter: its stable code, how bad it is, what it means, and how to mend it.

The documentation (docs/authorization-lint.md) is made of this table. Codes are never renamed, only added.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    """It cannot do what it was written for."""
    WARNING = "warning"
    """It probably does something else than it seems to."""
    NOTE = "note"
    """It may well be meant; whoever reads the policy should know."""


@dataclass(frozen=True, slots=True)
class Check:
    code: str
    severity: Severity
    meaning: str
    """What is the matter, in a sentence or two, for any policy that has it."""
    mend: str


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

_ALL = (
    # --- values that can never match
    Check(
        "principal-with-scheme",
        _E,
        "Principals are compared without `spiffe://`, so that a value with it never matches.",
        "Leave `spiffe://` out.",
    ),
    Check(
        "principal-impossible",
        _E,
        "No SPIFFE ID looks like this, so that the value never matches.",
        "Write the peer's SPIFFE ID as it is, without `spiffe://`: trust domain, then path.",
    ),
    Check(
        "inner-star",
        _W,
        "A star counts only at one end of a value. Anywhere else it is an ordinary character, which names and paths "
        "hardly ever have.",
        "Put the star at one end, or list the values; in `paths`, `{*}` stands for one segment.",
    ),
    Check(
        "path-with-query",
        _E,
        "Paths are compared without their query, so that a value with `?` never matches.",
        "Leave the query out, or look at it by a condition on `request.headers[:path]`.",
    ),
    Check(
        "path-without-slash",
        _E,
        "Every path begins with a slash, so that a value that does not never matches.",
        "Put a slash in front.",
    ),
    Check(
        "path-not-normal",
        _E,
        "Paths are normalised before they are compared, and a normalised path never looks like this value.",
        "Write the path as the message shows it.",
    ),
    Check(
        "method-lower-case",
        _W,
        "Methods are compared with regard to case, and clients send them in upper case.",
        "Write the method in upper case.",
    ),
    Check(
        "host-with-scheme",
        _E,
        "Hosts are compared with `:authority`, which has neither scheme nor path; the value never matches.",
        "Leave only the host name, and the port if clients send one.",
    ),
    Check(
        "host-without-port",
        _W,
        "The port is part of what a client sends as host, if it sends one: `shop.example:8443` does not match "
        "`shop.example`. A DENY is passed by it.",
        "Add the same host with `:*` as another value.",
    ),
    Check(
        "sni-upper-case",
        _E,
        "Server names are compared in lower case, so that a value with upper-case letters never matches.",
        "Write it in lower case.",
    ),
    Check(
        "claim-not-text",
        _W,
        "A claim matches only if it is a string or a list of strings. A boolean or a number in a token never does, and "
        "so satisfies the negative form.",
        "Have the issuer send a string, or test another claim.",
    ),
    Check(
        "claim-with-space",
        _E,
        "This claim is split at spaces before it is compared, so that a value with a space never matches.",
        "List the words as values of their own; if all are needed, give each a condition.",
    ),
    Check(
        "request-principal-star-star",
        _E,
        "`*/*` is not any request principal: it wants a subject that is literally `*`.",
        "Write `*` for any verified token with issuer and subject.",
    ),
    Check(
        "request-principal-without-subject",
        _W,
        "A request principal is issuer, slash, subject. A value without a slash and without a star matches only a "
        "token whose subject is empty.",
        "Write `issuer/subject`, or `issuer/*`.",
    ),
    Check(
        "mapped-address",
        _E,
        "Addresses are IPv4 or IPv6 as the connection has them; an IPv4-mapped block never matches an IPv4 client.",
        "Write the IPv4 block itself.",
    ),
    # --- rules that can never match, or need not be there
    Check(
        "never-matches",
        _E,
        "What the rule demands and what it excludes leave nothing over.",
        "Remove the rule, or one of the two fields.",
    ),
    Check(
        "shadowed",
        _W,
        "Everything that this rule matches, another rule of the same action and for the same workloads matches too.",
        "Remove the rule, or narrow the other one.",
    ),
    Check(
        "no-request-authentication",
        _W,
        "The rule wants a verified token, and no RequestAuthentication of the namespace or of the mesh verifies any.",
        "Add a RequestAuthentication that selects the same workloads.",
    ),
    # --- more open than it seems
    Check(
        "allows-everything",
        _N,
        "A rule without conditions allows every request, plaintext ones too.",
        'If only authenticated peers are meant, write `principals: ["*"]`.',
    ),
    Check(
        "allow-by-exclusion",
        _W,
        "The rule says only who may not, so that it allows everybody else, and peers without any identity too: a "
        "missing attribute satisfies a negative field.",
        "Say who may, and exclude from that.",
    ),
    Check(
        "namespace-of-any-domain",
        _N,
        "`namespaces` and `serviceAccounts` look at the path of an identity only: the namespace of that name in every "
        "federated trust domain, whose operators name their namespaces themselves, is meant as well (as in Istio). "
        "Said where that opens: of what an ALLOW names, and of what a DENY excludes.",
        "Add `trustDomains` with your own trust domain beside it, or write principals; in a DENY, exclude by "
        '`notPrincipals: ["DOMAIN/ns/NAMESPACE/*"]`.',
    ),
    Check(
        "prefix-without-boundary",
        _W,
        "The star stands behind a name, not behind a separator, so that longer names match as well: `/admin*` is also "
        "`/administrators`, `ns/shop*` also `ns/shop-test`. Said where it opens more: of what an ALLOW names, and of "
        "what a DENY or CUSTOM excludes (`notPaths: [/public*]`). A DENY of `/admin*` only closes more.",
        "End with the separator before the star, and list the name itself if it is meant too.",
    ),
    Check(
        "suffix-without-boundary",
        _W,
        "The star stands before a name, not before a separator, so that longer names match as well: `*shop.example` is "
        "also `evilshop.example`.",
        "Put the separator behind the star, and list the name itself if it is meant too.",
    ),
    Check(
        "only-ipv4",
        _N,
        "`0.0.0.0/0` is every IPv4 address, and no IPv6 address.",
        "Add `::/0`, or leave the field out.",
    ),
    # --- a DENY that is passed
    Check(
        "plaintext-passes-deny",
        _W,
        "The rule denies by the peer's identity. A plaintext peer has none, matches nothing positive, and passes; and "
        "here plaintext is accepted (PeerAuthentication is PERMISSIVE or DISABLE, which is also the default).",
        "Require mTLS by a STRICT PeerAuthentication, or turn the rule into an ALLOW of those who may.",
    ),
    Check(
        "no-token-passes-deny",
        _N,
        "The rule denies by what a token says. A request without a token matches nothing positive, and passes.",
        'Deny requests without a token as well (`notRequestPrincipals: ["*"]`).',
    ),
    Check(
        "deny-widens-on-tcp",
        _W,
        "On TCP a rule that is not an ALLOW loses its HTTP fields, and so matches more (Istio warns of it as well).",
        "Name the ports that the rule is meant for.",
    ),
    Check(
        "matches-all-tcp",
        _W,
        "All that the rule looks at is HTTP. On TCP nothing of it is left, and it matches every connection: a DENY "
        "closes all TCP ports of its workloads.",
        "Name the ports that the rule is meant for.",
    ),
    # --- the mesh around it
    Check(
        "selects-nothing",
        _W,
        "None of the given workloads is selected by this document.",
        "Compare the labels with those of the workloads.",
    ),
    Check(
        "target-never-applies",
        _E,
        "A GatewayClass counts only in the root namespace, and only if it is `istio-waypoint`.",
        "Move the policy to the root namespace, or name a Gateway or Service.",
    ),
    Check(
        "unknown-provider",
        _E,
        "The mesh has no extension provider of that name, so that all that the policy matches is denied.",
        "Add the provider to the mesh's settings, or correct the name.",
    ),
    Check(
        "several-providers",
        _E,
        "CUSTOM policies with different providers may meet on one workload, where they deny all that they match.",
        "Give the workload one provider.",
    ),
    Check(
        "oldest-unknown",
        _W,
        "Of several PeerAuthentications at one level the oldest wins. Without creation times, names decide.",
        "Keep one of them, or write `metadata.creationTimestamp`.",
    ),
    # --- the document itself (found while loading)
    Check(
        "null-field",
        _W,
        "A field that is null is the same as one that is left out, which often means more than it seems to.",
        "Remove the field, or give it a value.",
    ),
    Check(
        "no-spec",
        _W,
        "A document without a spec means what an empty one means; an AuthorizationPolicy allows nothing.",
        "Write `spec: {}` if that is meant.",
    ),
    Check(
        "no-namespace",
        _W,
        "The document has no namespace, and where it lands depends on who applies it.",
        "Write `metadata.namespace`.",
    ),
    Check(
        "selector-without-labels",
        _W,
        "A selector without labels selects every workload.",
        "Leave the selector out, or give it labels.",
    ),
    Check(
        "private-key-in-jwks",
        _W,
        "The key set has a secret key. Whoever reads the policy can make tokens.",
        "Publish only public keys, and replace this one.",
    ),
    Check(
        "unknown-code",
        _W,
        "The annotation `citadel/lint-ignore` names a code that does not exist.",
        "Correct it, or remove it.",
    ),
)

CHECKS: dict[str, Check] = {check.code: check for check in _ALL}
