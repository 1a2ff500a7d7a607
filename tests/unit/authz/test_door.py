"""The ext_authz door as a function of bytes: what it makes of a check, and what it never answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel.authz import MeshFacts, load_text
from citadel.authz.decision import Reason
from citadel.authz.doors import Caller, Checked, DenialHeader, Door, DoorRules, Registered
from citadel.authz.doors.joined import MAX_READINGS
from citadel.authz.policyset import compile_documents
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.deciding import deciding
from tests.support.tokens import key_set, public_jwk, token

TD = TrustDomain("example.org")
CART = Registered(SpiffeId.parse("spiffe://example.org/ns/shop/sa/cart"), {"app": "cart"})
WEB = "spiffe://example.org/ns/shop/sa/web"
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules:
  - from: [{source: {principals: [example.org/ns/shop/sa/web, partner.org/ns/x/sa/y]}}]
    to: [{operation: {methods: [GET], paths: ["/cart/*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-tests, namespace: shop}
spec:
  action: DENY
  rules:
  - when: [{key: "request.headers[x-mode]", values: ["test"]}]
  - from: [{source: {remoteIpBlocks: ["192.0.2.0/24"]}}]
  - from: [{source: {requestPrincipals: ["issuer/mallory"]}}]
"""
KEYS = key_set(public_jwk("ES256"))
TOKENS = f"""
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec: {{jwtRules: [{{issuer: issuer, jwks: '{KEYS}'}}]}}
"""


def door(text: str = POLICIES, rules: DoorRules | None = None, **facts: Any) -> Door:
    return Door(deciding(compile_documents(load_text(text), MeshFacts(TD, **facts))), rules or DoorRules())


DOOR = door()


def caller(*entries: Registered, domains: tuple[str, ...] = ("example.org",)) -> Caller:
    return Caller("pid 1 uid 1", entries, frozenset(map(TrustDomain, domains)))


def message(
    *,
    principal: str = WEB,
    method: str = "GET",
    path: str = "/cart/7?now",
    headers: dict[str, str] | None = None,
    raw: list[tuple[str, bytes]] | None = None,
    extensions: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    claims: dict[str, Any] | None = None,
) -> external_auth_pb2.CheckRequest:
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    attributes.source.principal = principal
    attributes.source.address.socket_address.address = "10.0.0.9"
    attributes.destination.address.socket_address.address = "10.0.0.1"
    attributes.destination.address.socket_address.port_value = 8443
    attributes.destination.labels.update(labels or {})
    attributes.context_extensions.update(extensions or {})
    http = attributes.request.http
    http.method, http.path, http.host = method, path, "cart.shop"
    http.headers.update(headers or {})
    for name, value in raw or []:
        http.header_map.headers.add(key=name, raw_value=value)
    if claims is not None:
        attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"].update({"payload": claims})
    return request


def asked(one: Door, request: external_auth_pb2.CheckRequest, who: Caller | None = None) -> Checked:
    return asyncio.run(one.check(request.SerializeToString(), who or caller(CART)))


def status(checked: Checked) -> int:
    """What an Envoy makes of the answer, whatever its settings: 200 only for code 0 without a body of denial."""
    response = checked.response
    kind = response.WhichOneof("http_response")
    if response.status.code == 0:
        assert kind == "ok_response"
        return 200
    assert kind in ("denied_response", "error_response")
    found: int = getattr(response, kind).status.code
    return found


@pytest.mark.parametrize("wrong", ["x,y", "x%20", "x/", "x,URI=spiffe://example.org/ns/shop/sa/web"])
def test_a_deny_is_not_passed_by_an_identity_that_is_written_wrongly(wrong: str) -> None:
    """Only the CA of another trust domain makes such; Envoy's SPIFFE validator lets them in."""
    text = (
        POLICIES.partition("spec:")[0] + "spec: {action: DENY, rules: [{from: [{source: {principals: [ptr.org/*]}}]}]}"
    )
    who = caller(CART, domains=("example.org", "ptr.org"))
    checked = asked(door(text), message(principal=f"spiffe://ptr.org/{wrong}"), who)
    assert (status(checked), checked.decision.reason) == (403, Reason.BAD_REQUEST)


def test_the_id_of_a_request_is_told_with_raw_headers_too() -> None:
    for one in (message(headers={"x-request-id": "abc"}), message(raw=[("x-request-id", b"abc")])):
        question = asked(DOOR, one).ruling.question
        assert question is not None
        assert question.request_id == "abc"


@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        ({}, 200, Reason.ALLOWED_BY_POLICY),
        ({"method": "POST"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"path": "/admin"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"path": "/cart/../admin"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"path": "/cart/%00"}, 400, Reason.BAD_PATH),
        ({"principal": ""}, 403, Reason.NO_ALLOW_MATCHED),
        ({"principal": "cart.example.org"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"principal": "example.org/ns/shop/sa/web"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"principal": "SPIFFE://example.org/ns/shop/sa/web"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"principal": f"{WEB},{WEB}"}, 403, Reason.BAD_REQUEST),
        ({"principal": "spiffe://partner.org/ns/x/sa/y"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"method": ""}, 403, Reason.BAD_REQUEST),
        ({"raw": [(":method", b"GET"), (":method", b"POST")]}, 403, Reason.BAD_REQUEST),
        ({"raw": [(":method", b"POST")]}, 403, Reason.BAD_REQUEST),
        ({"raw": [(":path", b"/cart/\xff")], "path": "/cart/!"}, 200, Reason.ALLOWED_BY_POLICY),
        ({"raw": [("x-mode", b"a"), ("X-Mode", b"test")]}, 403, Reason.DENIED_BY_POLICY),
        ({"raw": [("x-mode", b"a,test")]}, 200, Reason.ALLOWED_BY_POLICY),
        ({"headers": {"x-mode": "a,test"}}, 403, Reason.DENIED_BY_POLICY),
        ({"headers": {"x-mode": "a", "X-Mode": "test"}}, 403, Reason.BAD_REQUEST),
        ({"headers": {"x-mode": "a, test"}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"headers": {"x-mode": ",".join("a" * 99)}}, 403, Reason.BAD_REQUEST),
        ({"headers": {"x-other": ",".join("a" * 99)}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"claims": {"iss": "issuer", "sub": "mallory"}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"extensions": {"citadel/workload": CART.spiffe_id.uri}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"extensions": {"citadel/workload": WEB}}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"extensions": {"citadel/namespace": "bank"}}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"extensions": {"citadel/label/app": "cart"}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"extensions": {"citadel/label/app": "web"}}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"extensions": {"citadel/label/none": ""}}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"extensions": {"citadel/wrokload": "x"}}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"extensions": {"other": "x"}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"labels": {"app": "cart", "hash": "1"}}, 200, Reason.ALLOWED_BY_POLICY),
        ({"labels": {"app": "web"}}, 403, Reason.UNKNOWN_WORKLOAD),
    ],
)
def test_a_check_is_answered_so_that_every_envoy_understands_it(
    change: dict[str, Any], expected: int, reason: Reason
) -> None:
    checked = asked(door(), message(**change))
    assert (status(checked), checked.decision.reason) == (expected, reason), checked.decision
    metadata = checked.response.dynamic_metadata
    assert metadata["reason"] == reason.value
    assert metadata["version"]


def test_a_denial_names_its_policy_in_metadata_and_nothing_in_its_body() -> None:
    checked = asked(door(), message(headers={"x-mode": "test"}))
    assert checked.response.dynamic_metadata["policy"] == "shop/no-tests"
    assert checked.response.denied_response.body == "RBAC: access denied"


def test_a_label_that_the_entry_lacks_contradicts_it_if_a_policy_selects_by_it() -> None:
    unlabelled = caller(Registered(CART.spiffe_id, {}))
    assert asked(door(), message(labels={"app": "cart"}), unlabelled).decision.reason is Reason.UNKNOWN_WORKLOAD
    assert asked(door(), message(labels={"zone": "a"}), unlabelled).decision.reason is Reason.NO_ALLOW_POLICY


def test_who_is_registered_twice_must_say_as_which() -> None:
    both = caller(CART, Registered(SpiffeId.parse("spiffe://example.org/ns/shop/sa/stock"), {"app": "stock"}))
    assert asked(door(), message(), both).decision.reason is Reason.UNKNOWN_WORKLOAD
    named = message(extensions={"citadel/workload": CART.spiffe_id.uri})
    assert asked(door(), named, both).decision.reason is Reason.ALLOWED_BY_POLICY


def test_of_several_entries_only_the_federation_of_the_one_that_is_meant_counts() -> None:
    partner, other = frozenset({TrustDomain("partner.org")}), frozenset({TrustDomain("other.org")})
    stock = SpiffeId.parse("spiffe://example.org/ns/shop/sa/stock")
    peer = SpiffeId.parse("spiffe://partner.org/ns/x/sa/y")

    def counts(*entries: Registered, named: SpiffeId | None = None) -> bool:
        extensions = None if named is None else {"citadel/workload": named.uri}
        who = caller(*entries, domains=("example.org", "partner.org", "other.org"))
        request = asked(door(), message(principal=peer.uri, extensions=extensions), who).ruling.request
        assert request is not None
        assert peer in (request.peer, request.unknown_peer)
        return request.peer == peer

    federated = Registered(CART.spiffe_id, CART.labels, partner | other)
    assert counts(federated)
    assert counts(federated, Registered(stock, {"app": "stock"}), named=CART.spiffe_id)
    assert not counts(CART, Registered(stock, {"app": "stock"}, partner), named=CART.spiffe_id)
    assert counts(CART, federated)  # two entries of one ID: it is both
    assert not counts(federated, Registered(stock, CART.labels, other))  # of two IDs nobody knows which is meant


def test_who_is_not_registered_is_denied() -> None:
    assert asked(door(), message(), caller()).decision.reason is Reason.UNKNOWN_WORKLOAD


def test_an_id_without_a_namespace_is_in_the_default_one() -> None:
    plain = caller(Registered(SpiffeId.parse("spiffe://example.org/cart"), {"app": "cart"}))
    assert asked(door(), message(method="POST"), plain).decision.reason is Reason.NO_ALLOW_POLICY
    in_shop = door(rules=DoorRules(default_namespace="shop"))
    assert asked(in_shop, message(method="POST"), plain).decision.reason is Reason.NO_ALLOW_MATCHED


@pytest.mark.parametrize("domains", [("example.org", "partner.org")])
def test_the_identity_of_a_federated_trust_domain_counts(domains: tuple[str, ...]) -> None:
    request = message(principal="spiffe://partner.org/ns/x/sa/y")
    assert asked(door(), request, caller(CART, domains=domains)).decision.allowed


OF_UNKNOWN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {action: ACTION, rules: [{from: [{source: {FIELD}}]}]}
"""
UNKNOWN, PLAIN = "spiffe://evil.org/ns/shop/sa/web", ""


@pytest.mark.parametrize(
    ("action", "field", "unknown", "plain"),
    [  # whether the rule matches; the table of docs/authorization-doors.md
        ("ALLOW", "principals: [evil.org/ns/shop/sa/web]", False, False),
        ("ALLOW", "principals: ['*']", False, False),
        ("ALLOW", "namespaces: [shop]", False, False),
        ("ALLOW", "serviceAccounts: [web]", False, False),
        ("ALLOW", "trustDomains: [evil.org]", False, False),
        ("ALLOW", "notPrincipals: [evil.org/ns/shop/sa/web]", False, True),
        ("ALLOW", "notPrincipals: ['*']", False, True),
        ("ALLOW", "notNamespaces: [shop]", False, True),
        ("ALLOW", "notTrustDomains: [example.org]", True, True),
        ("DENY", "principals: [evil.org/ns/shop/sa/web]", True, False),
        ("DENY", "principals: ['*']", True, False),
        ("DENY", "namespaces: [shop]", True, False),
        ("DENY", "serviceAccounts: [web]", True, False),
        ("DENY", "trustDomains: [evil.org]", True, False),
        ("DENY", "principals: [example.org/ns/shop/sa/web]", False, False),
        ("DENY", "notPrincipals: [evil.org/ns/shop/sa/web]", True, True),
        ("DENY", "notPrincipals: ['*']", True, True),
        ("DENY", "notNamespaces: [shop]", True, True),
        ("DENY", "trustDomains: [evil.org], notPrincipals: [evil.org/ns/shop/sa/web]", True, False),
    ],
)
def test_an_identity_of_an_unknown_trust_domain_is_held_against_its_bearer_and_never_counts_for_it(
    action: str, field: str, unknown: bool, plain: bool
) -> None:
    one = door(OF_UNKNOWN.replace("ACTION", action).replace("FIELD", field))
    for principal, matches in ((UNKNOWN, unknown), (PLAIN, plain)):
        assert asked(one, message(principal=principal)).decision.allowed is (matches is (action == "ALLOW")), principal
    federated = caller(CART, domains=("example.org", "evil.org"))  # then it is as any other
    assert asked(one, message(principal=UNKNOWN), federated).ruling.request.peer == SpiffeId.parse(UNKNOWN)  # type: ignore[union-attr]


def test_the_identity_of_an_alias_counts() -> None:
    one = door(aliases=(TrustDomain("old.org"),))
    assert asked(one, message(principal="spiffe://old.org/ns/shop/sa/web")).decision.allowed


def test_claims_count_from_a_configured_proxy_only() -> None:
    trusting = door(rules=DoorRules(claims_from=frozenset([CART.spiffe_id])))
    request = message(claims={"iss": "issuer", "sub": "mallory"})
    assert asked(trusting, request).decision.reason is Reason.DENIED_BY_POLICY
    assert asked(door(), request).decision.allowed


@pytest.mark.parametrize(
    "place",
    [
        {"headers": {"authorization": "Bearer a.b.c"}},
        {"path": "/cart/7?access_token=a.b.c"},
        {"path": "/cart/[/7?access_token=a.b.c"},
        {"headers": {"authorization": "x Bearer a.b.c"}},
    ],
)
def test_a_token_that_is_none_is_refused_where_tokens_are_looked_for(place: dict[str, Any]) -> None:
    one = door(POLICIES + TOKENS)
    checked = asked(one, message(**place))
    assert (status(checked), checked.decision.reason) == (401, Reason.BAD_TOKEN)
    assert checked.response.denied_response.headers[0].header.key == "www-authenticate"
    assert asked(one, message()).decision.allowed
    assert asked(door(), message(**place)).decision.allowed


def bearer(subject: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(iss='issuer', sub=subject, **claims)}"}


def test_a_token_is_verified_and_its_user_decided_on() -> None:
    one = door(POLICIES + TOKENS)
    assert asked(one, message(headers=bearer("mallory"))).decision.reason is Reason.DENIED_BY_POLICY
    passed = asked(one, message(headers=bearer("alice")))
    assert passed.decision.allowed
    assert list(passed.response.ok_response.headers_to_remove) == ["authorization"]
    stale = asked(one, message(headers=bearer("alice", exp=1)))
    assert (status(stale), stale.decision.reason) == (401, Reason.BAD_TOKEN)


def test_a_claim_that_is_not_ascii_is_written_as_envoy_reads_it() -> None:
    rule = "outputClaimToHeaders: [{header: x-user, claim: name}]}]}"
    one = door(POLICIES + TOKENS.replace("}]}\n", f", {rule}\n"))
    written = asked(one, message(headers={**bearer("alice", name="Zoë"), "x-user": "forged"}))
    (option,) = written.response.ok_response.headers
    assert (option.header.key, option.header.value) == ("x-user", "Zoë")
    no_text = asked(one, message(headers={**bearer("alice", name="\ud800"), "x-user": "forged"}))
    assert status(no_text) == 401


def test_a_token_counts_alone_whatever_a_proxy_says_that_it_verified() -> None:
    one = door(POLICIES + TOKENS, DoorRules(claims_from=frozenset([CART.spiffe_id])))
    alice, mallory = {"iss": "issuer", "sub": "alice"}, {"iss": "issuer", "sub": "mallory"}
    assert not asked(one, message(headers=bearer("mallory"), claims=alice)).decision.allowed
    assert asked(one, message(headers=bearer("alice"), claims=mallory)).decision.allowed
    assert asked(one, message(claims=mallory)).decision.reason is Reason.DENIED_BY_POLICY
    assert asked(one, message(claims=alice)).decision.allowed


def test_metadata_of_somebody_over_the_network_never_counts() -> None:
    one = door(POLICIES, DoorRules(claims_from=frozenset([CART.spiffe_id])))
    request = message(claims={"iss": "issuer", "sub": "mallory"})
    remote = Caller("10.0.0.7", (CART,), frozenset([TD]), local=False)
    assert asked(one, request, remote).decision.allowed
    assert not asked(one, request).decision.allowed


def test_headers_of_denials_are_as_configured() -> None:
    headers = (DenialHeader("x-why", "{reason} by {policy}"), DenialHeader("cache-control", "no-store"))
    one = door(rules=DoorRules(denial_headers=headers))
    by_policy = asked(one, message(headers={"x-mode": "test"})).response.denied_response
    told = {option.header.key: option.header.value for option in by_policy.headers}
    assert told == {"x-why": "denied-by-policy by shop/no-tests", "cache-control": "no-store"}
    by_none = asked(one, message(method="POST")).response.denied_response
    assert {option.header.key for option in by_none.headers} == {"cache-control"}


def test_behind_a_normalising_listener_no_path_is_taken_that_it_cannot_have_left() -> None:
    odd = message(path="/cart/..;x/7")
    assert asked(door(), odd).decision.reason is Reason.NO_ALLOW_MATCHED
    assert asked(door(rules=DoorRules(path_normalized=True)), odd).decision.reason is Reason.BAD_PATH


@pytest.mark.parametrize(
    ("proxies", "forwarded", "denied"),
    [
        (0, "192.0.2.1", False),
        (1, "192.0.2.1", True),
        (1, "192.0.2.1,10.0.0.9", True),  # this Envoy has added the direct peer itself
        (1, "192.0.2.1,::ffff:10.0.0.9", True),
        (1, "192.0.2.1,198.51.100.1", False),
        (2, "192.0.2.1,198.51.100.1", True),
        (2, "192.0.2.1", False),  # not as many: as Envoy, the direct peer
        (1, "nonsense", False),
    ],
)
def test_the_original_client_is_behind_the_trusted_proxies(proxies: int, forwarded: str, denied: bool) -> None:
    checked = asked(door(trusted_proxies=proxies), message(headers={"x-forwarded-for": forwarded}))
    assert checked.decision.allowed is not denied


def test_before_the_first_good_set_everything_is_denied() -> None:
    checked = asked(Door(deciding(None), DoorRules()), message())
    assert (status(checked), checked.response.WhichOneof("http_response")) == (503, "denied_response")


def test_a_connection_is_decided_as_tcp() -> None:
    request = message()
    request.attributes.request.ClearField("http")
    assert asked(door(), request).decision.reason is Reason.DENIED_BY_POLICY  # a DENY widens on TCP


def test_a_fault_of_ours_is_an_error_and_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("citadel.authz.doors.check.whose", broken)
    checked = asked(door(), message())
    assert (status(checked), checked.response.WhichOneof("http_response")) == (503, "error_response")
    assert "secret" not in str(checked.response)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_check_are_denied(noise: bytes) -> None:
    checked = asyncio.run(DOOR.check(noise, caller(CART)))
    assert status(checked) != 200


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["x-mode", "accept", "x-b"]), st.text("a,t es", max_size=30)),
    st.text(max_size=20),
)
def test_whatever_is_in_headers_is_answered(headers: dict[str, str], path: str) -> None:
    checked = asked(DOOR, message(headers=headers, path=f"/{path}"))
    assert status(checked) in (200, 400, 403)
    assert checked.decision.reason is not Reason.INTERNAL_ERROR


def test_the_number_of_readings_is_bounded() -> None:
    few = message(headers={"x-mode": ",".join("a" * (MAX_READINGS.bit_length()))})
    assert asked(door(), few).decision.allowed
