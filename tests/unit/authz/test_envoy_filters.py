"""Compiled filters: what is in them, in which order, and that nothing which Envoy would refuse ever leaves."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from citadel.authz import (
    Action,
    AuthorizationPolicy,
    ExtensionProvider,
    MeshFacts,
    Metadata,
    Operation,
    PathNormalization,
    PolicyName,
    PolicySet,
    ProviderProtocol,
    Rule,
    Source,
    Workload,
    compile,  # noqa: A004  (as in re.compile)
    load_text,
)
from citadel.authz.envoy import CannotCompile, compile_filters, deny_all
from citadel.authz.envoy.jwks import NOBODYS, usable
from citadel.spiffe import TrustDomain

WORKLOAD = Workload("shop", {"app": "cart"})


def document(spec: dict[str, Any], name: str = "p", kind: str = "AuthorizationPolicy", **annotations: str) -> str:
    metadata = {"name": name, "namespace": "shop", "annotations": annotations}
    return json.dumps({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})


def policies(*documents: str, **facts: Any) -> PolicySet:
    mesh = MeshFacts(TrustDomain("cluster.local"), **facts)
    return compile(load_text("\n---\n".join(documents)), mesh)


def filters(*documents: str, **facts: Any) -> dict[str, Any]:
    """The HTTP filters by the end of their names."""
    found: Any = compile_filters(policies(*documents, **facts), WORKLOAD).to_dict()["http_filters"]
    return {one["name"].removeprefix("citadel.authz."): one["typed_config"] for one in found}


def network(*documents: str, **facts: Any) -> dict[str, Any]:
    found: Any = compile_filters(policies(*documents, **facts), WORKLOAD).to_dict()["network_filters"]
    return {one["name"].removeprefix("citadel.authz."): one["typed_config"] for one in found}


ANY: dict[str, Any] = {"rules": [{}]}
USERS = document(
    {"jwtRules": [{"issuer": "i", "jwksUri": "https://id.example/keys"}]}, "users", "RequestAuthentication"
)
GRPC = ExtensionProvider("opa", ProviderProtocol.GRPC, "ns/opa.example", 9191, timeout=timedelta(seconds=2))
HTTP = ExtensionProvider("web", ProviderProtocol.HTTP, "web.example", 8080, path_prefix="/check")


def test_filters_stand_in_the_order_in_which_istio_asks() -> None:
    found = filters(
        *(document({**ANY, "action": action}, action.lower()) for action in ("ALLOW", "DENY", "AUDIT")),
        document({**ANY, "action": "CUSTOM", "provider": {"name": "opa"}}, "custom"),
        USERS,
        providers=(GRPC,),
    )
    assert list(found) == ["guard", "custom.opa", "ext_authz.opa", "jwt", "audit", "deny", "allow"]
    assert [found[name]["rules"].get("action", "ALLOW") for name in ("audit", "deny", "allow")] == [
        "LOG",
        "DENY",
        "ALLOW",
    ]


def test_without_policies_only_the_guard_of_paths_stands() -> None:
    assert list(filters()) == ["guard"]
    assert network() == {}


def test_a_rule_has_the_name_of_its_policy() -> None:
    found = filters(document({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}, {}]}))
    assert sorted(found["deny"]["rules"]["policies"]) == ["ns[shop]-policy[p]-rule[0]", "ns[shop]-policy[p]-rule[1]"]


def test_an_allow_policy_without_rules_allows_nothing() -> None:
    found = filters(document({}))["allow"]
    assert "rules" in found
    assert "policies" not in found["rules"]


def test_dry_run_is_in_the_shadow_and_enforces_nothing() -> None:
    found = filters(document(ANY, **{"istio.io/dry-run": "true"}))["allow"]
    assert "rules" not in found
    assert list(found["shadow_rules"]["policies"]) == ["ns[shop]-policy[p]-rule[0]"]
    assert found["shadow_rules_stat_prefix"] == "citadel_dry_run_allow_"


def test_on_tcp_allow_narrows_and_deny_widens() -> None:
    rules = [{"to": [{"operation": {"paths": ["/a"], "ports": ["80"]}}]}]
    allow, deny = (network(document({"action": one, "rules": rules}))[one.lower()] for one in ("ALLOW", "DENY"))
    assert "policies" not in allow["rules"]
    assert deny["rules"]["policies"]["ns[shop]-policy[p]-rule[0]"]["permissions"] == [{"destination_port": 80}]


def test_templates_become_regexes_and_never_uri_templates() -> None:
    text = json.dumps(filters(document({"rules": [{"to": [{"operation": {"paths": ["/a.b/{*}/{**}/c"]}}]}]})))
    assert "uri_template" not in text
    assert json.dumps(r"(?s)/a\.b/[^/]+/.*/c") in text


def test_a_regex_that_the_default_runtime_would_refuse_brings_its_own_bound() -> None:
    found = filters(document({"rules": [{"to": [{"operation": {"paths": ["/{*}/" + "a" * 500]}}]}]}))
    policy = found["allow"]["rules"]["policies"]["ns[shop]-policy[p]-rule[0]"]
    matcher = policy["permissions"][0]["url_path"]["path"]["safe_regex"]
    assert 500 < matcher["google_re2"]["max_program_size"] < 1000


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule(operations=(Operation(paths=("/{*}/" + "a" * 9000,)),)), "RE2 program"),
        (Rule(operations=(Operation(paths=("a" * 20_000,)),)), "at most 16384"),
        (Rule(operations=(Operation(paths=("/\udcff",)),)), "not valid Unicode"),
        (Rule(sources=(Source(principals=("*\ud800",)),)), "not valid Unicode"),
    ],
)
def test_what_envoy_would_refuse_is_refused_with_policy_and_field(rule: Rule, why: str) -> None:
    policy = AuthorizationPolicy(Metadata(PolicyName("shop", "odd")), Action.DENY, (rule,))
    made = compile([policy], MeshFacts(TrustDomain("cluster.local")))
    with pytest.raises(CannotCompile, match=why) as refused:
        compile_filters(made, WORKLOAD)
    assert "AuthorizationPolicy shop/odd: rules[0]" in refused.value.message


def test_jwt_passes_without_a_token_and_fetches_keys_from_a_named_cluster() -> None:
    made = compile_filters(policies(USERS), WORKLOAD)
    (cluster,) = made.clusters
    assert (cluster.host, cluster.port, cluster.tls) == ("id.example", 443, True)
    jwt = filters(USERS)["jwt"]
    assert jwt["providers"]["rule-0"]["remote_jwks"]["http_uri"]["cluster"] == cluster.name
    required = jwt["rules"][0]["requires"]["requires_any"]["requirements"]
    assert required == [{"provider_name": "rule-0"}, {"allow_missing": {}}]


def test_an_issuer_whose_keys_are_not_known_yet_has_none() -> None:
    text = document({"jwtRules": [{"issuer": "i"}]}, "users", "RequestAuthentication")
    (key,) = json.loads(filters(text)["jwt"]["providers"]["rule-0"]["local_jwks"]["inline_string"])["keys"]
    assert key == NOBODYS
    found = compile_filters(policies(text), WORKLOAD, discovered={"i": "http://id.example:8080/k"})
    assert [(one.port, one.tls) for one in found.clusters] == [(8080, False)]


def custom(name: str, provider: str) -> str:
    return document({**ANY, "action": "CUSTOM", "provider": {"name": provider}}, name)


@pytest.mark.parametrize("provider", [GRPC, HTTP])
def test_a_provider_is_asked_with_a_timeout_and_fails_closed(provider: ExtensionProvider) -> None:
    found = filters(custom("c", provider.name), providers=(provider,))
    asked = found[f"ext_authz.{provider.name}"]
    assert "failure_mode_allow" not in asked
    assert asked["status_on_error"] == {"code": "ServiceUnavailable"}
    service = asked["grpc_service"] if provider is GRPC else asked["http_service"]["server_uri"]
    assert service["timeout"] in ("2s", "0.600s")
    shadow = found[f"custom.{provider.name}"]
    key = asked["filter_enabled_metadata"]["path"][0]["key"]
    assert key == shadow["shadow_rules_stat_prefix"] + "shadow_effective_policy_id"


@pytest.mark.parametrize(
    "documents", [[custom("c", "nobody")], [custom("c", "opa"), custom("d", "web")]], ids=["unknown", "several"]
)
def test_custom_denies_what_it_matches_where_nobody_can_be_asked(documents: list[str]) -> None:
    found = filters(*documents, providers=(GRPC, HTTP))
    assert list(found) == ["guard", "custom"]
    assert found["custom"]["rules"]["action"] == "DENY"
    assert len(found["custom"]["rules"]["policies"]) == len(documents)


def test_several_providers_are_all_asked_where_the_mesh_says_so() -> None:
    found = filters(custom("c", "opa"), custom("d", "web"), providers=(GRPC, HTTP), several_providers=True)
    assert list(found) == ["guard", "custom.opa", "ext_authz.opa", "custom.web", "ext_authz.web"]
    assert list(network(custom("c", "opa"), custom("d", "web"), providers=(GRPC, HTTP), several_providers=True)) == [
        "custom.opa",
        "ext_authz.opa",
    ]


def test_another_workloads_policies_are_not_compiled() -> None:
    text = document({**ANY, "selector": {"matchLabels": {"app": "other"}}})
    assert list(filters(text)) == ["guard"]


@pytest.mark.parametrize("mode", PathNormalization)
def test_the_guard_denies_paths_that_nobody_can_decide_on(mode: PathNormalization) -> None:
    ids = set(filters(path_normalization=mode)["guard"]["rules"]["policies"])
    odd = "citadel[path-is-not-utf-8]" if mode is PathNormalization.NONE else "citadel[dot-segment-with-parameters]"
    assert ids == {"citadel[not-a-path]", odd}


def test_the_default_of_a_filter_that_waits_for_its_policies_denies_all() -> None:
    assert deny_all().HasField("rules")
    assert not deny_all().rules.policies


def test_the_key_that_nobody_has_is_a_hash_and_so_has_no_known_secret() -> None:
    x = hashlib.sha256(b"citadel: nobody has this key 4").digest()
    assert NOBODYS["x"] == base64.urlsafe_b64encode(x).rstrip(b"=").decode()
    assert json.loads(usable(json.dumps({"keys": [NOBODYS]})))["keys"] == [NOBODYS]  # and is on the curve


ED = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "ed"}


@pytest.mark.parametrize(
    "bad",
    [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {**NOBODYS, "y": NOBODYS["x"]},
        {**NOBODYS, "alg": "ES384"},
        {**NOBODYS, "use": "enc"},
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {**ED, "x": "AA"},
        {**ED, "kid": 1},
        "no key",
    ],
)
def test_a_key_that_envoy_would_refuse_is_left_out_and_the_others_stay(bad: Any) -> None:
    assert json.loads(usable(json.dumps({"keys": [bad, ED]}))) == {"keys": [ED]}


def test_secrets_in_a_key_set_do_not_reach_an_envoy() -> None:
    assert json.loads(usable(json.dumps({"keys": [{**ED, "d": "secret", "x5c": ["..."]}]}))) == {"keys": [ED]}


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"keys":{}}', '{"keys":[]}', "[" * 100_000])
def test_without_a_usable_key_no_token_verifies(text: str) -> None:
    assert json.loads(usable(text)) == {"keys": [NOBODYS]}
