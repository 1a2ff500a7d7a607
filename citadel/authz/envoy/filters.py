"""All filters of one workload in the order in which they run: guard, CUSTOM, jwt_authn, AUDIT, DENY, ALLOW."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from citadel.authz.envoy import guard, jwt, providers, rbac
from citadel.authz.envoy.clusters import Cluster
from citadel.authz.facts import ExtensionProvider, MeshFacts, ProviderProtocol
from citadel.authz.model import Action, RequestAuthentication
from citadel.authz.policyset import PolicySet, WorkloadPolicies
from citadel.authz.request import JsonValue, Workload
from citadel.authz.rules import CompiledRule
from citadel.authz.selection import applies

PREFIX = "citadel.authz"
_NOTHING_DISCOVERED: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Filters:
    """What enforces a workload's policies, to be put before everything else that a connection or request meets."""

    version: str
    """Of the policy set that it was made from."""
    http: tuple[HttpFilter, ...]
    """For an HTTP connection manager, before its router. It must normalise paths as the mesh does."""
    network: tuple[Filter, ...]
    """For a filter chain of plain TCP, before its proxy."""
    clusters: tuple[Cluster, ...]
    """What the filters send to."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As Envoy's own JSON, for a bootstrap or to read."""
        return {
            "version": self.version,
            "http_filters": [_as_json(one) for one in self.http],
            "network_filters": [_as_json(one) for one in self.network],
            "clusters": [{**one.to_json()} for one in self.clusters],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)


def compile_filters(
    policies: PolicySet, workload: Workload, *, discovered: Mapping[str, str] = _NOTHING_DISCOVERED, stats: bool = False
) -> Filters:
    """The filters that enforce on `workload` what `decide` decides for it.

    `discovered` has the `jwks_uri` by issuer for RequestAuthentications that name no keys; without it their tokens are
    refused. `stats` asks for counters by rule. Raises CannotCompile if there is a value that Envoy would refuse: then
    nothing is made, and what an Envoy has must stay in force.
    """
    applying, facts = policies.for_workload(workload), policies.facts
    jwt_rules = [
        rule
        for document in policies.documents
        if isinstance(document, RequestAuthentication) and applies(document, workload, facts.root_namespace)
        for rule in document.jwt_rules
    ]
    http: list[HttpFilter] = [_http("guard", rbac.http(guard.rules(facts.path_normalization)))]
    http += _custom_http(applying, facts)
    clusters = {providers.cluster(one) for one in _asked(applying, facts)}
    if jwt_rules:
        made, fetched = jwt.jwt_authn(jwt_rules, facts, discovered)
        clusters |= fetched
        http.append(_http("jwt", made))
    http += _rules_http(applying, stats)
    return Filters(
        policies.version,
        tuple(http),
        (*_custom_network(applying, facts), *_rules_network(applying)),
        tuple(sorted(clusters)),
    )


def _rules_http(applying: WorkloadPolicies, stats: bool) -> Iterator[HttpFilter]:
    for action, effect in _EFFECTS.items():
        enforced, shadow = _stages(applying, action, tcp=False)
        if enforced is not None or shadow is not None:
            yield _http(
                action.lower(),
                rbac.http(
                    None if enforced is None else rbac.rules(effect, enforced),
                    None if shadow is None else rbac.rules(effect, shadow),
                    _dry_run_prefix(action),
                    per_rule=stats,
                ),
            )


def _rules_network(applying: WorkloadPolicies) -> Iterator[Filter]:
    for action, effect in _EFFECTS.items():
        enforced, shadow = _stages(applying, action, tcp=True)
        if enforced is not None or shadow is not None:
            yield _network(
                action.lower(),
                rbac.network(
                    f"citadel_{action.lower()}_",
                    None if enforced is None else rbac.rules(effect, enforced),
                    None if shadow is None else rbac.rules(effect, shadow),
                    _dry_run_prefix(action),
                ),
            )


_EFFECTS = {Action.AUDIT: rbac.LOG, Action.DENY: rbac.DENY, Action.ALLOW: rbac.ALLOW}


def _dry_run_prefix(action: Action) -> str:
    return f"citadel_dry_run_{action.lower()}_"


def _stages(
    applying: WorkloadPolicies, action: Action, *, tcp: bool
) -> tuple[Sequence[CompiledRule] | None, Sequence[CompiledRule] | None]:
    """The rules of the enforced policies with this action, and those in dry run; None where there is no such policy.

    An ALLOW policy without rules, or whose rules do not stand on TCP, leaves an empty list: it allows nothing.
    """
    stages = []
    for dry_run in (False, True):
        members = [one for one in applying.policies if one.policy.action is action and one.policy.dry_run is dry_run]
        rules = [rule for one in members for rule in (one.tcp if tcp else one.http)]
        stages.append(rules if rules or (members and action is Action.ALLOW) else None)
    return stages[0], stages[1]


# --- CUSTOM


def _custom_http(applying: WorkloadPolicies, facts: MeshFacts) -> Iterator[HttpFilter]:
    yield from (_http("custom", rbac.http(rbac.rules(rbac.DENY, rules))) for rules in _hopeless(applying, facts, False))
    for provider in _asked(applying, facts):
        shadow = rbac.rules(rbac.DENY, _custom_rules(applying, provider.name, tcp=False))
        yield _http(f"custom.{provider.name}", rbac.http(None, shadow, providers.shadow_prefix(provider.name)))
        yield _http(f"ext_authz.{provider.name}", providers.http(provider))


def _custom_network(applying: WorkloadPolicies, facts: MeshFacts) -> Iterator[Filter]:
    for rules in _hopeless(applying, facts, True):
        yield _network("custom", rbac.network("citadel_custom_", rbac.rules(rbac.DENY, rules)))
    for provider in _asked(applying, facts):
        if provider.protocol is ProviderProtocol.HTTP:
            continue  # it cannot be asked about a connection; Istio generates no filter for it
        prefix = providers.shadow_prefix(provider.name)
        shadow = rbac.rules(rbac.DENY, _custom_rules(applying, provider.name, tcp=True))
        yield _network(f"custom.{provider.name}", rbac.network(prefix, None, shadow, prefix))
        yield _network(f"ext_authz.{provider.name}", providers.network(provider))


def _asked(applying: WorkloadPolicies, facts: MeshFacts) -> list[ExtensionProvider]:
    """The providers that can be asked: none where there are several and only one is allowed."""
    if len(applying.providers) > 1 and not facts.several_providers:
        return []
    return [found for name in applying.providers if (found := facts.provider(name)) is not None]


def _hopeless(applying: WorkloadPolicies, facts: MeshFacts, tcp: bool) -> Iterator[list[CompiledRule]]:
    """The CUSTOM rules for which nobody can be asked, so that what they match is denied; if there are any."""
    asked = {provider.name for provider in _asked(applying, facts)}
    rules = [
        rule for name in applying.providers if name not in asked for rule in _custom_rules(applying, name, tcp=tcp)
    ]
    if rules:
        yield rules


def _custom_rules(applying: WorkloadPolicies, provider: str, *, tcp: bool) -> list[CompiledRule]:
    return [
        rule
        for one in applying.policies
        if one.policy.action is Action.CUSTOM and not one.policy.dry_run and (one.policy.provider or "") == provider
        for rule in (one.tcp if tcp else one.http)
    ]


# --- messages


def _http(name: str, config: Message) -> HttpFilter:
    made = HttpFilter(name=f"{PREFIX}.{name}")
    made.typed_config.Pack(config)
    return made


def _network(name: str, config: Message) -> Filter:
    made = Filter(name=f"{PREFIX}.{name}")
    made.typed_config.Pack(config)
    return made


def _as_json(message: Message) -> JsonValue:
    found: JsonValue = MessageToDict(message, preserving_proto_field_name=True)
    return found
