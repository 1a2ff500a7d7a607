"""Who may call what: Istio's security policies as values, loaded, compiled, decided and explained. No I/O, no clock.

`model` holds the documents, `load` reads them, `facts` is what the mesh knows of itself, `request` what is asked and
whose policies are asked, `decision` the answer. Doors and files are thin edges outside of the core.
"""

from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.facts import ExtensionProvider, MeshFacts, PathNormalization
from citadel.authz.lint import LintFinding, Severity, lint
from citadel.authz.load import LoadWarning, Origin, PolicyDocuments, Skipped, SourceText, load, load_text
from citadel.authz.model import (
    Action,
    Attribute,
    AuthorizationPolicy,
    ClaimToHeader,
    Condition,
    ConditionKey,
    Document,
    HeaderLocation,
    JwtRule,
    Kind,
    Metadata,
    MtlsMode,
    Operation,
    PeerAuthentication,
    PolicyName,
    RequestAuthentication,
    Rule,
    Source,
    TargetKind,
    TargetRef,
    WorkloadSelector,
)
from citadel.authz.request import HttpRequest, Request, ServiceRef, Workload, WorkloadKind

__all__ = [
    "Action",
    "Attribute",
    "AuthorizationPolicy",
    "ClaimToHeader",
    "Condition",
    "ConditionKey",
    "Decision",
    "Document",
    "ExtensionProvider",
    "HeaderLocation",
    "HttpRequest",
    "JwtRule",
    "Kind",
    "LintFinding",
    "LoadWarning",
    "Match",
    "MeshFacts",
    "Metadata",
    "MtlsMode",
    "Operation",
    "Origin",
    "Outcome",
    "PathNormalization",
    "PeerAuthentication",
    "PolicyDocuments",
    "PolicyName",
    "Reason",
    "Request",
    "RequestAuthentication",
    "Rule",
    "ServiceRef",
    "Severity",
    "Skipped",
    "Source",
    "SourceText",
    "TargetKind",
    "TargetRef",
    "Workload",
    "WorkloadKind",
    "WorkloadSelector",
    "lint",
    "load",
    "load_text",
]
