"""Who may call what: Istio's security policies as values, loaded, compiled, decided and explained. No I/O, no clock.

    policies = compile(load_text(text), MeshFacts(TrustDomain("cluster.local")))
    decision = decide(policies, Workload("shop", {"app": "cart"}), request)
    print(explain(policies, Workload("shop", {"app": "cart"}), request).to_text())

`model` holds the documents, `load` reads them, `facts` is what the mesh knows of itself, `request` what is asked and
whose policies are asked, `decision` the answer. `policyset` compiles, `evaluate` decides, `explain` tells why. Doors
and files are thin edges outside of the core. docs/authorization.md is the guide.
"""

from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.evaluate import Answer, Consultation, decide, evaluate
from citadel.authz.explain import Explanation, Failure, PolicyExplanation, RuleExplanation, explain
from citadel.authz.facts import ExtensionProvider, MeshFacts, PathNormalization, ProviderProtocol
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
from citadel.authz.paths import BadPath, normalize
from citadel.authz.policyset import PolicySet, WorkloadPolicies, compile_documents
from citadel.authz.request import HttpRequest, Request, ServiceRef, Workload, WorkloadKind

compile = compile_documents  # noqa: A001  (as in re.compile)

__all__ = [
    "Action",
    "Answer",
    "Attribute",
    "AuthorizationPolicy",
    "BadPath",
    "ClaimToHeader",
    "Condition",
    "ConditionKey",
    "Consultation",
    "Decision",
    "Document",
    "Explanation",
    "ExtensionProvider",
    "Failure",
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
    "PolicyExplanation",
    "PolicyName",
    "PolicySet",
    "ProviderProtocol",
    "Reason",
    "Request",
    "RequestAuthentication",
    "Rule",
    "RuleExplanation",
    "ServiceRef",
    "Severity",
    "Skipped",
    "Source",
    "SourceText",
    "TargetKind",
    "TargetRef",
    "Workload",
    "WorkloadKind",
    "WorkloadPolicies",
    "WorkloadSelector",
    "compile",
    "decide",
    "evaluate",
    "explain",
    "lint",
    "load",
    "load_text",
    "normalize",
]
