"""ext_authz over HTTP as a function of a request: what it believes, what it must know, and what it answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel.authz import MeshFacts, compile, load_text  # noqa: A004  (as in re.compile)
from citadel.authz.decision import Reason
from citadel.authz.doors import Caller, DoorRules, HttpDoor, HttpRules, Registered
from citadel.authz.doors.http_check import Asked, HttpAnswer
from citadel.authz.doors.joined import BadAttributes
from citadel.authz.doors.xfcc import only_uri
from citadel.spiffe import SpiffeId
from tests.support.deciding import deciding
from tests.unit.authz.test_door import CART, POLICIES, TD, TOKENS, WEB, bearer, caller

PROXY = HttpRules(frozenset([CART.spiffe_id]), connection_headers=True)
PLAIN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET], paths: ["/cart/*"]}}]}]}
"""
CONNECTION = ("x-citadel-connection", "source=10.0.0.9;destination=[fd00::1]:80;sni=A")
COMES = [CONNECTION, ("x-forwarded-client-cert", f"By=x;URI={WEB}")]


def door(text: str = POLICIES, http: HttpRules = PROXY, **facts: Any) -> HttpDoor:
    return HttpDoor(deciding(compile(load_text(text), MeshFacts(TD, **facts))), DoorRules(), http)


def asked(
    one: HttpDoor,
    *headers: tuple[str, str],
    target: str = "/cart/7?now",
    method: str = "GET",
    who: Caller | None = None,
    comes: list[tuple[str, str]] = COMES,
    all_headers: bool = True,
) -> HttpAnswer:
    witness = [("x-forwarded-proto", "http")] if all_headers else []
    given = [("host", "cart.shop"), ("content-length", "0"), *witness, *comes, *headers]
    return asyncio.run(one.check(Asked(method, target, given), who or caller(CART), began=0.0))


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({}, 200, Reason.ALLOWED_BY_POLICY),
        ({"method": "POST"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"target": "/admin"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"target": "/cart/../admin"}, 403, Reason.NO_ALLOW_MATCHED),
        ({"target": "/cart/%00"}, 400, Reason.BAD_PATH),
        ({"target": "http://cart.shop/cart/7"}, 400, Reason.BAD_PATH),
        ({"comes": COMES[:1]}, 403, Reason.NO_ALLOW_MATCHED),
        ({"comes": COMES[1:]}, 403, Reason.BAD_REQUEST),
        ({"comes": [*COMES, COMES[0]]}, 403, Reason.BAD_REQUEST),
        ({"comes": [(CONNECTION[0], CONNECTION[1].replace("10.0.0.9", "here")), COMES[1]]}, 403, Reason.BAD_REQUEST),
        ({"comes": [(CONNECTION[0], CONNECTION[1].replace("10.0.0.9", "1.2.3")), COMES[1]]}, 403, Reason.BAD_REQUEST),
        ({"comes": [(CONNECTION[0], CONNECTION[1].replace("80", "65536")), COMES[1]]}, 403, Reason.BAD_REQUEST),
        ({"who": caller()}, 403, Reason.UNKNOWN_WORKLOAD),
        ({"who": Caller("far", (CART,), frozenset([TD]), local=False)}, 403, Reason.BAD_REQUEST),
    ],
)
def test_a_check_is_answered(change: dict[str, Any], status: int, reason: Reason) -> None:
    answer = asked(door(), **change)
    assert (answer.status, answer.ruling.decision.reason) == (status, reason), answer.ruling.decision
    assert dict(answer.headers)["citadel-policy-version"] == answer.ruling.version


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("x-mode", "test")], 403),
        ([("x-mode", "a"), ("x-mode", "test")], 403),
        ([("x-mode", "a,test")], 403),  # joined by Envoy, perhaps
        ([("x-mode", "a, test")], 200),
        ([CONNECTION], 403),  # a client's own
        ([("host", "other")], 403),
    ],
)
def test_headers_are_read_in_every_way(headers: list[tuple[str, str]], status: int) -> None:
    assert asked(door(), *headers).status == status


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        (f"By=spiffe://a/b;Hash=0;URI={WEB}", WEB),
        (f'Hash=0;Subject="CN=a,O=\\"b;URI=x\\"";URI={WEB}', WEB),
        (f"By=x;URI={WEB};DNS=a", WEB),
        ("Hash=1", ""),
        (f'URI="{WEB}"', WEB),
    ],
)
def test_the_one_element_says_who_the_peer_is(value: str, uri: str) -> None:
    assert only_uri(value) == uri


@pytest.mark.parametrize("value", ["", "x", "=", f"URI={WEB};URI={WEB}", 'Subject="a', f'URI={WEB},"', f"URI={WEB},"])
def test_what_is_no_forwarded_certificate_is_refused(value: str) -> None:
    with pytest.raises(BadAttributes):
        only_uri(value)


@pytest.mark.parametrize("sign", [",", ";", ",By=x;Hash=1;"])
def test_a_uri_of_another_trust_domain_cannot_hold_one_of_ours(sign: str) -> None:
    """As a real Envoy 1.40 forwards a certificate of a federated domain whose one URI SAN is written so."""
    xfcc = ("x-forwarded-client-cert", f"By=x;Hash=1;URI=spiffe://fed.example/x{sign}URI={WEB}")
    assert asked(door(), comes=[CONNECTION, xfcc]).ruling.decision.reason is Reason.BAD_REQUEST


def test_the_original_client_is_not_known_where_the_direct_peer_is_not() -> None:
    deny = POLICIES.partition("---")[0]
    text = (
        deny[: deny.index("spec:")]
        + "spec: {action: DENY, rules: [{from: [{source: {remoteIpBlocks: [10.1.1.1]}}]}]}\n"
    )
    one = door(text, trusted_proxies=1)
    forwarded = ("x-forwarded-for", "10.1.1.1,10.0.0.9")  # the last is the direct peer's, by Envoy
    assert asked(one, forwarded).ruling.decision.reason is Reason.DENIED_BY_POLICY
    assert asked(one, forwarded, comes=COMES[1:]).ruling.decision.reason is Reason.BAD_REQUEST


@settings(deadline=None)
@given(st.text('By=URI;,"\\ ', max_size=40))
def test_whatever_is_in_it_has_a_meaning_or_none(value: str) -> None:
    with suppress(BadAttributes):
        only_uri(value)


def test_who_may_not_forward_certificates_is_refused_with_one() -> None:
    stranger = HttpRules(connection_headers=True)
    assert asked(door(PLAIN, stranger), comes=COMES).ruling.decision.reason is Reason.BAD_REQUEST
    assert asked(door(PLAIN, stranger), comes=[]).status == 200


def test_what_is_not_known_and_a_policy_refers_to_is_a_denial_and_not_an_absence() -> None:
    deny = "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {name: d, namespace: shop}\n"
    for rule in (
        "{from: [{source: {principals: [example.org/ns/shop/sa/mallory]}}]}",
        "{from: [{source: {ipBlocks: [10.0.0.9]}}]}",
        '{to: [{operation: {ports: ["80"]}}]}',
        '{when: [{key: connection.sni, values: ["a"]}]}',
        '{when: [{key: destination.ip, values: ["10.0.0.1"]}]}',
        '{when: [{key: "experimental.envoy.filters.a[b]", values: ["c"]}]}',
    ):
        answer = asked(door(f"{deny}spec: {{action: DENY, rules: [{rule}]}}\n", HttpRules()), comes=[])
        assert answer.ruling.decision.reason is Reason.BAD_REQUEST, rule
    port = f'{deny}spec: {{action: DENY, rules: [{{to: [{{operation: {{ports: ["80"]}}}}]}}]}}\n'
    assert asked(door(port)).ruling.decision.reason is Reason.DENIED_BY_POLICY


def test_a_filter_that_does_not_send_all_headers_hides_none_of_them_from_a_deny() -> None:
    deny = "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {name: d, namespace: shop}\n"
    header = (
        f'{deny}spec: {{action: DENY, rules: [{{when: [{{key: "request.headers[x-mode]", values: ["test"]}}]}}]}}\n'
    )
    peer = f"{deny}spec: {{action: DENY, rules: [{{from: [{{source: {{namespaces: [shop]}}}}]}}]}}\n"
    for text in (header, peer, PLAIN + TOKENS):
        assert asked(door(text), all_headers=False).ruling.decision.reason is Reason.BAD_REQUEST, text
    assert asked(door(header)).status == 200
    assert asked(door(PLAIN), all_headers=False).status == 200


def test_a_token_is_verified_and_what_becomes_of_it_is_told_to_envoy() -> None:
    assert asked(door(POLICIES + TOKENS), *bearer("mallory").items()).status == 403
    passed = asked(door(POLICIES + TOKENS), *bearer("alice").items())
    assert (passed.status, dict(passed.headers)["x-envoy-auth-headers-to-remove"]) == (200, "authorization")
    assert asked(door(POLICIES + TOKENS), ("authorization", "Bearer x")).status == 401


def test_a_denial_is_never_a_server_error_that_an_envoy_might_let_pass() -> None:
    answer = asked(HttpDoor(deciding(None), DoorRules(), PROXY))
    assert (answer.status, answer.ruling.decision.reason) == (403, Reason.NOT_LOADED)


def test_a_prefix_of_the_path_is_the_proxy_s() -> None:
    one = door(http=HttpRules(PROXY.xfcc_from, True, "/authz"))
    assert asked(one, target="/authz/cart/7").status == 200
    assert asked(one, target="/cart/7").ruling.decision.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("name", ["content-length", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms"])
def test_what_envoy_writes_anew_for_the_check_is_not_the_request_s(name: str) -> None:
    assert asked(door(POLICIES.replace("x-mode", name))).ruling.decision.reason is Reason.BAD_REQUEST
    request = asked(door(), (name, "1"), comes=COMES).ruling.request
    assert request is None or request.http is None or name not in request.http.headers


def test_a_client_cannot_say_whose_policies_are_asked() -> None:
    lax = Registered(SpiffeId.parse("spiffe://example.org/ns/lax/sa/cart"), {})
    for headers in ([], [("x-citadel-workload", lax.spiffe_id.uri)], [("citadel/workload", lax.spiffe_id.uri)]):
        answer = asked(door(), *headers, who=caller(CART, lax))
        assert answer.ruling.decision.reason is Reason.UNKNOWN_WORKLOAD


@pytest.mark.parametrize("sni", ["a;destination=10.0.0.1:443;sni=b", f"a,{CONNECTION[1]}", "a b"])
def test_what_a_client_puts_into_sni_is_nothing_but_sni(sni: str) -> None:
    value = f"source=10.0.0.9;destination=10.0.0.1:80;sni={sni}"
    assert asked(door(), comes=[(CONNECTION[0], value), COMES[1]]).ruling.decision.reason is Reason.BAD_REQUEST


_NAMES = st.sampled_from(
    [
        "x-mode",
        "host",
        "x-citadel-connection",
        "x-forwarded-client-cert",
        "authorization",
        "x-forwarded-for",
        "cookie",
        "",
    ]
)
_VALUES = st.one_of(
    st.text(max_size=30), st.sampled_from([COMES[0][1], COMES[1][1], "a,b", "Bearer a.b.c", "10.0.0.1"])
)
_NOISY = door(POLICIES + TOKENS, trusted_proxies=1)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.text(max_size=20), st.text("GETPOS", max_size=4))
def test_whatever_comes_is_answered_and_is_no_defect(headers: list[tuple[str, str]], target: str, method: str) -> None:
    given = Asked(method, target, headers)
    answer = asyncio.run(_NOISY.check(given, caller(CART), began=0.0))
    assert answer.status in (200, 400, 401, 403)
    assert answer.ruling.decision.reason is not Reason.INTERNAL_ERROR
