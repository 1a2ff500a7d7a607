"""A small mesh with an AuthZEN door, and a client that reaches it as somebody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from citadel.api.authzen import AuthzenParts, Bearers, CallerRules, application
from citadel.api.authzen.callers import SCOPE, Caller
from citadel.authz import MeshFacts, PolicySet, Workload, load_text
from citadel.authz import compile as compile_policies
from citadel.authz.doors.authzen import AuthzenDoor, AuthzenRules, NamedWorkload
from citadel.authz.entities import EntityDirectory, read_entities
from citadel.errors import NotFound
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.deciding import deciding

TD = TrustDomain("example.org")
RECORDS = SpiffeId.parse("spiffe://example.org/ns/crm/sa/records")
PEP = Caller(frozenset({"uid:1000"}), "uid 1000")
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: crm}
spec:
  selector: {matchLabels: {app: records}}
  rules:
  - from: [{source: {requestPrincipals: ["user/alice@example.com", "user/bob@example.com"]}}]
    to: [{operation: {methods: [can_read], paths: ["/document/*", "/account/*", "/todo/*"]}}]
  - from: [{source: {requestPrincipals: ["user/*"]}}]
    to: [{operation: {methods: [can_edit]}}]
    when: [{key: "request.auth.claims[department]", values: [sales]}]
  - from: [{source: {principals: ["example.org/ns/crm/sa/web"]}}]
    to: [{operation: {methods: [can_read]}}]
  - to: [{operation: {methods: [open]}}]
    when: [{key: "experimental.envoy.filters.authzen.resource[state]", values: [public]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-secret, namespace: crm}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: ["/document/secret", "/document/a%2F..%2Fsecret"]}}]
  - when: [{key: "experimental.envoy.filters.authzen.context[network]", values: [guest]}]
  - from: [{source: {requestPrincipals: ["user/bob@example.com"]}}]
    to: [{operation: {paths: ["/document/subject-search.md", "/account/456"]}}]
"""
ENTITIES = """
entities:
- {type: user, id: alice@example.com, properties: {department: sales}}
- {type: user, id: bob@example.com}
- {type: user, id: carol@example.com}
- {type: workload, id: "spiffe://example.org/ns/crm/sa/web"}
- {type: account, id: "123", properties: {state: public}}
- {type: account, id: "456"}
- {type: account, id: "789"}
actions:
- {name: can_read}
- {name: can_edit}
- {name: open, resource_types: [account]}
"""


class Registry:
    """ports.Workloads: one workload is registered."""

    async def find(self, name: SpiffeId) -> Workload:
        if name != RECORDS:
            raise NotFound(f"nobody is registered as {name}")
        return Workload("crm", {"app": "records"})

    def trust_domains(self) -> frozenset[TrustDomain]:
        return frozenset({TD})


@dataclass
class World:
    """What a test may change before and while it asks."""

    policies: PolicySet | None = field(default_factory=lambda: policy_set(POLICIES))
    entities: EntityDirectory | None = field(default_factory=lambda: read_entities("e.yaml", ENTITIES.encode()))
    rules: AuthzenRules = field(default_factory=lambda: AuthzenRules(NamedWorkload(RECORDS)))
    callers: CallerRules = field(default_factory=lambda: CallerRules(PEP.names, PEP.names))
    caller: Caller = PEP
    searches: bool = True
    most_bytes: int = 1 << 20
    bearers: Bearers | None = None

    def door(self) -> AuthzenDoor:
        point = deciding(lambda: self.policies)
        return AuthzenDoor(point, Registry(), lambda: self.entities, self.rules)

    def app(self) -> ASGIApp:
        """As `caller` reaches it."""
        url = "https://pdp.example.com"
        guarded = application(
            AuthzenParts(self.door(), lambda: self.callers, url, self.searches, self.most_bytes, self.bearers)
        )

        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            await guarded({**scope, SCOPE: self.caller}, receive, send)

        return called

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app())
        async with httpx.AsyncClient(transport=transport, base_url="https://pdp.example.com") as client:
            yield client


def policy_set(text: str) -> PolicySet:
    return compile_policies(load_text(text), MeshFacts(TD))


def question(
    subject: str = "alice@example.com", action: str = "can_read", resource: str = "document/1", **more: Any
) -> dict[str, Any]:
    kind, _, name = resource.partition("/")
    who = "workload" if subject.startswith("spiffe:") else "user"
    asked = {"subject": {"type": who, "id": subject}, "action": {"name": action}}
    return asked | {"resource": {"type": kind, "id": name}} | more
