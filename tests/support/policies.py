"""Policies to store: small documents by name, and the change that puts them there."""

from __future__ import annotations

from datetime import UTC, datetime

from citadel.audit import AuditEvent
from citadel.authz import Kind, MeshFacts, PolicyName
from citadel.authz.load import SourceText
from citadel.authz.stored import DocumentKey, PolicyStore, StoredDocument, StoredPolicies, Version
from citadel.spiffe import TrustDomain
from tests.support.clock import ManualClock

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FACTS = MeshFacts(TrustDomain("example.org"))


def policy(name: str, action: str = "DENY", *, namespace: str = "shop") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{action: {action}, rules: [{{}}]}}\n"
    )


def file(*names: str, action: str = "DENY", name: str = "given.yaml") -> SourceText:
    return SourceText(name, "---\n".join(policy(one, action) for one in names).encode())


def use_cases(store: PolicyStore) -> StoredPolicies:
    return StoredPolicies(store, FACTS, ManualClock(NOW), default_namespace="default")


def key(name: str) -> DocumentKey:
    return DocumentKey(Kind.AUTHORIZATION_POLICY, PolicyName("shop", name))


def document(name: str, body: str = "{}") -> StoredDocument:
    return StoredDocument(key(name), body)


def version(number: int, *, set_version: str = "s") -> Version:
    return Version(number, NOW, "uid:0", "apply", f"change {number}", "c", set_version, 1, 1, 0, 0)


def record(number: int) -> AuditEvent:
    return AuditEvent(NOW, "uid:0", "policy.apply", f"v{number}")
