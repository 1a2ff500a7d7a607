"""Short ways to say policies, workloads and requests in tests of the engine."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from citadel.authz.decision import Decision
from citadel.authz.evaluate import Answers, decide
from citadel.authz.facts import ExtensionProvider, MeshFacts, ProviderProtocol
from citadel.authz.model import Action, AuthorizationPolicy, Condition, ConditionKey, Metadata, PolicyName, Rule
from citadel.authz.policyset import PolicySet, compile_documents
from citadel.authz.request import HttpRequest, Request, Workload
from citadel.spiffe import SpiffeId, TrustDomain

FACTS = MeshFacts(
    TrustDomain("td"),
    providers=(
        ExtensionProvider("grpc", ProviderProtocol.GRPC, "a.example", 1),
        ExtensionProvider("http", ProviderProtocol.HTTP, "b.example", 2),
    ),
)
SHOP = Workload("shop", {"app": "cart"})
WEB = "td/ns/shop/sa/web"


def policy(
    action: Action = Action.ALLOW, *rules: Rule, name: str = "p", namespace: str = "shop", **more: Any
) -> AuthorizationPolicy:
    if action is Action.CUSTOM:
        more.setdefault("provider", "grpc")
    return AuthorizationPolicy(Metadata(PolicyName(namespace, name)), action, rules, **more)


def when(key: ConditionKey, values: tuple[str, ...] = (), not_values: tuple[str, ...] = ()) -> Rule:
    return Rule(conditions=(Condition(key, values, not_values),))


def tcp(peer: str | None = WEB, *, source: str | None = None, **more: Any) -> Request:
    return Request(
        more.pop("port", 8080),
        None if peer is None else SpiffeId.parse(f"spiffe://{peer}"),
        None if source is None else ip_address(source),
        **more,
    )


def get(
    path: str = "/", peer: str | None = WEB, *, method: str = "GET", authority: str | None = "cart", **more: Any
) -> Request:
    http = {name: more.pop(name) for name in ("headers", "jwt") if name in more}
    return tcp(peer, http=HttpRequest(method, path, authority, **http), **more)


def compiled(*policies: AuthorizationPolicy, facts: MeshFacts = FACTS) -> PolicySet:
    return compile_documents(policies, facts)


def decided(
    request: Request,
    *policies: AuthorizationPolicy,
    workload: Workload = SHOP,
    facts: MeshFacts = FACTS,
    answers: Answers | None = None,
) -> Decision:
    return decide(compiled(*policies, facts=facts), workload, request, answers or {})
