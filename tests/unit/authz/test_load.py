"""What a good load gives: values, what was skipped, what was warned of, places, versions, and what is read again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network

import pytest
import yaml

from citadel.authz import (
    Action,
    Attribute,
    AuthorizationPolicy,
    ClaimToHeader,
    Condition,
    ConditionKey,
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
    SourceText,
    TargetKind,
    TargetRef,
    WorkloadSelector,
    load,
    load_text,
)
from citadel.errors import BadFile
from tests.unit.authz.load_cases import authorization, peer, request

EVERYTHING = """\
# every field of an AuthorizationPolicy
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: all
  namespace: shop
  creationTimestamp: 2026-01-31T12:00:00+01:00
  labels: {team: a}
  annotations:
    istio.io/dry-run: "true"
    citadel/lint-ignore: a-code, another-code
spec:
  selector:
    matchLabels: {tier: web, app: cart}
  action: DENY
  rules:
  - from:
    - source:
        principals: [a/ns/b/sa/c]
        notPrincipals: ["*/sa/d"]
        requestPrincipals: [iss/sub]
        notRequestPrincipals: ["*"]
    - source:
        namespaces: [b]
        notNamespaces: [c]
        trustDomains: ["*.example"]
        notTrustDomains: [old.example]
        ipBlocks: [10.1.2.3/8, 10.0.0.1]
        notIpBlocks: ["2001:db8::1"]
        remoteIpBlocks: [0.0.0.0/0]
        notRemoteIpBlocks: ["::/0"]
    - source:
        serviceAccounts: [web, other/job]
        notServiceAccounts: [x]
    to:
    - operation:
        hosts: ["*.shop.example"]
        notHosts: [admin.shop.example]
        ports: ["080", "443"]
        notPorts: ["0"]
        methods: [GET]
        notMethods: [POST]
        paths: [/a, "/b/*", "/c/{*}/{**}"]
        notPaths: ["*/d"]
    when:
    - key: request.headers[X-Tenant]
      values: ["*"]
      notValues: [none]
    - key: source.ip
      values: [10.1.2.3/8]
    - key: destination.port
      notValues: ["0080"]
    - key: source.serviceAccount
      values: [web]
    - key: request.auth.claims[realm][roles]
      values: [admin]
    - key: experimental.envoy.filters.http.x[k]
      values: ["[v]"]
"""


def test_every_field_of_an_authorization_policy_is_read() -> None:
    assert load_text(EVERYTHING).authorization_policies == (
        AuthorizationPolicy(
            Metadata(PolicyName("shop", "all"), datetime(2026, 1, 31, 11, tzinfo=UTC)),
            Action.DENY,
            (
                Rule(
                    (
                        Source(
                            principals=("a/ns/b/sa/c",),
                            not_principals=("*/sa/d",),
                            request_principals=("iss/sub",),
                            not_request_principals=("*",),
                        ),
                        Source(
                            namespaces=("b",),
                            not_namespaces=("c",),
                            trust_domains=("*.example",),
                            not_trust_domains=("old.example",),
                            ip_blocks=(IPv4Network("10.0.0.0/8"), IPv4Network("10.0.0.1/32")),
                            not_ip_blocks=(IPv6Network("2001:db8::1/128"),),
                            remote_ip_blocks=(IPv4Network("0.0.0.0/0"),),
                            not_remote_ip_blocks=(IPv6Network("::/0"),),
                        ),
                        Source(service_accounts=("shop/web", "other/job"), not_service_accounts=("shop/x",)),
                    ),
                    (
                        Operation(
                            hosts=("*.shop.example",),
                            not_hosts=("admin.shop.example",),
                            ports=(80, 443),
                            not_ports=(0,),
                            methods=("GET",),
                            not_methods=("POST",),
                            paths=("/a", "/b/*", "/c/{*}/{**}"),
                            not_paths=("*/d",),
                        ),
                    ),
                    (
                        Condition(ConditionKey(Attribute.REQUEST_HEADERS, ("x-tenant",)), ("*",), ("none",)),
                        Condition(ConditionKey(Attribute.SOURCE_IP), ("10.0.0.0/8",)),
                        Condition(ConditionKey(Attribute.DESTINATION_PORT), (), ("80",)),
                        Condition(ConditionKey(Attribute.SOURCE_SERVICE_ACCOUNT), ("shop/web",)),
                        Condition(ConditionKey(Attribute.REQUEST_CLAIMS, ("realm", "roles")), ("admin",)),
                        Condition(ConditionKey(Attribute.ENVOY_FILTERS, ("envoy.filters.http.x", "k")), ("[v]",)),
                    ),
                ),
            ),
            selector=WorkloadSelector((("app", "cart"), ("tier", "web"))),
            dry_run=True,
        ),
    )


def test_the_lint_codes_that_a_document_silences_are_kept_and_are_no_part_of_it() -> None:
    policy = load_text(EVERYTHING).authorization_policies[0]
    assert policy.metadata.silenced == {"a-code", "another-code"}
    assert load_text(EVERYTHING.replace("a-code", "b-code")).version == load_text(EVERYTHING).version


def test_every_field_of_a_request_authentication_is_read() -> None:
    rule = """{
      issuer: https://a.example, audiences: [shop], jwksUri: https://a.example/keys, fromParams: [token],
      fromHeaders: [{name: X-Jwt, prefix: "JWT "}, {name: x}], fromCookies: [session], outputPayloadToHeader: x-payload,
      forwardOriginalToken: yes, outputClaimToHeaders: [{header: x-sub, claim: sub}], timeout: 1m30s,
      spaceDelimitedClaims: [groups]}"""
    assert load_text(request(rule)).request_authentications == (
        RequestAuthentication(
            Metadata(PolicyName("shop", "p")),
            (
                JwtRule(
                    issuer="https://a.example",
                    audiences=("shop",),
                    jwks_uri="https://a.example/keys",
                    from_headers=(HeaderLocation("X-Jwt", "JWT "), HeaderLocation("x")),
                    from_params=("token",),
                    from_cookies=("session",),
                    output_payload_to_header="x-payload",
                    output_claim_to_headers=(ClaimToHeader("x-sub", "sub"),),
                    forward_original_token=True,
                    timeout=timedelta(seconds=90),
                    space_delimited_claims=("groups",),
                ),
            ),
        ),
    )


def test_every_field_of_a_peer_authentication_is_read() -> None:
    spec = "{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {9090: {mode: DISABLE}, '80': {}}}"
    assert load_text(peer(spec)).peer_authentications == (
        PeerAuthentication(
            Metadata(PolicyName("shop", "p")),
            MtlsMode.STRICT,
            ((80, MtlsMode.UNSET), (9090, MtlsMode.DISABLE)),
            WorkloadSelector((("a", "b"),)),
        ),
    )


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("{kind: Service, name: x}", TargetKind.SERVICE),
        ("{group: core, kind: Service, name: x}", TargetKind.SERVICE),
        ("{group: networking.istio.io, kind: ServiceEntry, name: x}", TargetKind.SERVICE_ENTRY),
        ("{group: gateway.networking.k8s.io, kind: Gateway, name: x}", TargetKind.GATEWAY),
        ("{group: gateway.networking.k8s.io, kind: GatewayClass, name: x}", TargetKind.GATEWAY_CLASS),
    ],
)
def test_a_target_is_read_from_either_spelling(target: str, kind: TargetKind) -> None:
    for spec in ("{targetRef: " + target + "}", "{targetRefs: [" + target + "]}"):
        assert load_text(authorization(spec)).authorization_policies[0].target_refs == (TargetRef(kind, "x"),)


def test_custom_keeps_its_provider() -> None:
    policy = load_text(authorization("{action: CUSTOM, provider: {name: opa}, rules: [{}]}")).authorization_policies[0]
    assert (policy.action, policy.provider, policy.rules) == (Action.CUSTOM, "opa", (Rule(),))


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "\ufeff", "---\n---\n# a\n---\n", " \n\t\n", "--- # a\n"])
def test_nothing_loads_as_nothing(text: str) -> None:
    assert len(load_text(text)) == 0


def test_json_means_what_yaml_means() -> None:
    as_json = json.dumps(yaml.safe_load(EVERYTHING.replace("2026-01-31T12:00:00+01:00", '"2026-01-31T12:00:00+01:00"')))
    for name in ("p.json", "p.yaml"):
        assert load_text(as_json, name=name) == load_text(EVERYTHING)
    assert load_text(json.dumps(json.loads(as_json), indent=2), name="p.json") == load_text(EVERYTHING)


def test_json_documents_may_follow_one_another() -> None:
    one = '{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "%s"}, "spec": {}}'
    assert len(load_text(one.replace("%s", "a") + "\n" + one.replace("%s", "b"), name="p.json")) == 2


def test_what_is_wrong_with_json_is_told_in_its_own_words() -> None:
    with pytest.raises(BadFile, match=r"p.json:2:3: it is not JSON: "):
        load_text('{\n  kind: "x"}', name="p.json")


def test_a_key_that_json_has_twice_is_a_mistake_with_its_place() -> None:
    with pytest.raises(BadFile, match=r"p.json:2:2: the key kind is there twice"):
        load_text('{"kind": "List",\n "kind": "x"}', name="p.json")


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(BadFile):
        load_text('{"apiVersion": "v1", "kind": "\\ud800"}')
    whole = load_text('{"apiVersion": "v1", "kind": "\\ud83d\\ude00"}').skipped
    assert whole[0].kind == "\U0001f600"


def test_lists_are_opened_and_their_items_may_be_of_several_kinds() -> None:
    items = [yaml.safe_load(text) for text in (authorization("{}"), peer("{}"), "apiVersion: v1\nkind: Service\n")]
    loaded = load_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert len(loaded) == 2
    assert [str(one) for one in loaded.skipped] == ["<text>:1: Service  (v1)"]
    of_one_kind = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicyList", "items": items[:1]}
    assert len(load_text(yaml.safe_dump(of_one_kind))) == 1


def test_other_groups_are_skipped_and_named() -> None:
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {on: off, x: [1, ~]}\n"
    loaded = load_text(authorization("{}") + "---\n" + text)
    assert [(one.api_version, one.kind, one.name, one.origin.line) for one in loaded.skipped] == [
        ("apps/v1", "Deployment", "shop/web", 6)
    ]


def test_documents_are_sorted_so_that_the_order_of_files_means_nothing() -> None:
    a, b = (SourceText(n, authorization("{}", metadata="{name: " + n + "}").encode()) for n in "ab")
    assert load([a, b]) == load([b, a])
    assert [str(one.name) for one in load([b, a]).authorization_policies] == ["default/a", "default/b"]


def test_the_version_is_of_the_content_alone() -> None:
    plain, written_otherwise = authorization("{action: ALLOW}"), "# x\n" + authorization("{}") + "status: {}\n"
    assert load_text(plain).version == load_text(written_otherwise, name="other").version
    for other in (authorization("{action: AUDIT}"), authorization("{rules: [{}]}"), peer("{}")):
        assert load_text(other).version != load_text(plain).version
    assert load_text(plain).version != load_text("").version


def test_a_document_without_a_namespace_is_in_the_default_one_with_a_warning() -> None:
    text = authorization("{}", metadata="{name: p}")
    loaded = load([SourceText("p.yaml", text.encode())], default_namespace="shop")
    assert loaded.authorization_policies[0].name == PolicyName("shop", "p")
    assert [str(one) for one in loaded.warnings] == [
        "p.yaml:3:1: AuthorizationPolicy shop/p: metadata: "
        'it has no namespace, and is taken to be in "shop" [no-namespace]'
    ]


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        (authorization("{selector: {}}"), "selector-without-labels", "spec.selector"),
        (authorization("{rules: }"), "null-field", "spec.rules"),
        (authorization("{rules: [{from: }]}"), "null-field", "spec.rules[0].from"),
        (authorization("{}").replace("spec: {}", "spec:"), "null-field", "spec"),
        (authorization("{}").replace("spec: {}\n", ""), "no-spec", ""),
        (
            authorization("{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}"),
            "deny-widens-on-tcp",
            "spec.rules[0]",
        ),
        (
            authorization("{action: DENY, rules: [{from: [{source: {requestPrincipals: [a]}}]}]}"),
            "deny-widens-on-tcp",
            "spec.rules[0]",
        ),
        (
            request('{issuer: a, jwks: \'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}\'}'),
            "private-key-in-jwks",
            "spec.jwtRules[0].jwks",
        ),
    ],
)
def test_what_loads_but_hardly_means_what_it_says_is_warned_of(text: str, code: str, field: str) -> None:
    assert [(one.code, one.field) for one in load_text(text).warnings] == [(code, field)]


@pytest.mark.parametrize(
    "text",
    [
        authorization("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['80']}}]}]}"),
        authorization("{action: DENY, rules: [{from: [{source: {notTrustDomains: [a]}}]}]}"),
        authorization("{action: DENY, rules: [{from: [{source: {trustDomains: [a]}}]}]}"),
        authorization("{action: DENY, rules: [{from: [{source: {namespaces: [a]}}]}]}"),
        authorization("{to: }").replace("{to: }", "{rules: [{to: [{operation: {paths: [/a]}}]}]}"),
        authorization("{}", metadata="{name: p, namespace: a, creationTimestamp: null}"),
    ],
)
def test_nothing_else_is_warned_of(text: str) -> None:
    assert load_text(text).warnings == ()


def test_text_that_looks_like_a_time_or_a_ratio_is_text() -> None:
    loaded = load_text(authorization("{selector: {matchLabels: {since: 2026-01-01, at: 12:30:45, v: 1.2.3, x: 0o80}}}"))
    assert dict(loaded.authorization_policies[0].selector.match_labels) == {  # type: ignore[union-attr]
        "since": "2026-01-01",
        "at": "12:30:45",
        "v": "1.2.3",
        "x": "0o80",
    }


def test_anchors_and_merge_keys_mean_what_kubectl_makes_of_them() -> None:
    spec = """
  rules:
  - to: &reads
    - operation: &read {methods: [GET], paths: [/a]}
  - to:
    - operation:
        <<: *read
        paths: [/b]
  - to: *reads
"""
    rules = load_text(authorization(spec)).authorization_policies[0].rules
    read = Operation(methods=("GET",), paths=("/a",))
    assert [rule.operations for rule in rules] == [(read,), (replace(read, paths=("/b",)),), (read,)]


def test_a_marker_inside_a_block_of_text_does_not_divide_it() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    x\n    ---\n    kind: AuthorizationPolicy\n"
    assert [one.kind for one in load_text(text).skipped] == ["ConfigMap"]


@pytest.mark.parametrize("before", ["%YAML 1.2\n---\n", "", "---\n", "--- \n", "---\t\n"])
@pytest.mark.parametrize("between", ["---\n", "--- # next\n", "...\n---\n", "---\r\n"])
def test_documents_are_divided_as_yaml_divides_them(before: str, between: str) -> None:
    assert len(load_text(before + authorization("{}") + between + peer("{}"))) == 2


def test_the_place_of_any_field_can_be_asked_for() -> None:
    loaded = load_text("---\n" + EVERYTHING, name="all.yaml")
    policy = loaded.authorization_policies[0]
    origin = loaded.origin(policy)
    assert str(origin) == "all.yaml:3"
    assert origin.place(("spec", "action")) == (16, 3)
    assert origin.place(("spec", "rules", 0, "from", 1, "source", "ipBlocks", 1)) == (29, 32)
    assert origin.place(("spec", "provider")) == (13, 1)
    assert loaded.origins.keys() == {(Kind.AUTHORIZATION_POLICY, PolicyName("shop", "all"))}


def test_a_later_load_with_the_earlier_result_is_the_same_as_one_without() -> None:
    first = [
        SourceText("a", EVERYTHING.encode()),
        SourceText("b", (peer("{}") + "---\n" + request("{issuer: a}")).encode()),
    ]
    before = load(first)
    second = [SourceText("c", ("# moved\n\n---\n" + EVERYTHING).encode()), SourceText("b", peer("{}").encode())]
    with_previous, alone = load(second, previous=before), load(second)
    assert with_previous == alone
    assert with_previous.warnings == alone.warnings
    assert with_previous.origins == alone.origins
    assert str(with_previous.origin(with_previous.authorization_policies[0])) == "c:5"


def test_an_earlier_result_for_another_default_namespace_is_not_taken() -> None:
    sources = [SourceText("a", authorization("{}", metadata="{name: p}").encode())]
    loaded = load(sources, default_namespace="b", previous=load(sources, default_namespace="a"))
    assert loaded.authorization_policies[0].name.namespace == "b"


def test_a_duplicate_is_found_among_what_is_not_read_again() -> None:
    one = SourceText("a", peer("{}").encode())
    with pytest.raises(BadFile, match="another one of this name, at a:3"):
        load([one, replace(one, name="b")], previous=load([one]))
