"""RequestAuthentication in a real Envoy: a missing token passes without an identity, and a bad one is a 401."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from citadel.authz import HttpRequest, Workload
from citadel.authz.decision_point import Question
from tests.support.deciding import deciding
from tests.support.envoy_rbac import MESH, Authority, Case, Connection, Enforcer

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

PLAIN = Connection(False, None, "", "127.0.0.1", "10.0.0.1", "10.0.0.2", 80)
USER = {"iss": "one", "sub": "x"}


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "b"}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def case(name: str, jwt_rules: list[dict[str, Any]]) -> Case:
    """`/user` is for users alone, everything else for everybody."""
    rule = {"to": [{"operation": {"paths": ["/user"]}}], "from": [{"source": {"notRequestPrincipals": ["*"]}}]}
    documents = [
        document("AuthorizationPolicy", "users-only", {"action": "DENY", "rules": [rule]}),
        *(document("RequestAuthentication", f"r{n}", {"jwtRules": [one]}) for n, one in enumerate(jwt_rules)),
    ]
    workload = {"namespace": "b", "labels": {}, "kind": "workload", "gateway": "", "services": []}
    return Case(name, documents, MESH, [], workload=workload)


EXACT = ["/exact", "/exact?a=2&a=1&b=&c=a+x", "/exact?=&=&A=1&a=b=c", "/exact?a=1", "/exact?a=&= +#%zz%"]


def written(jwks: str) -> Case:
    """Policies look at what the token leaves in the request."""
    conditions = {
        "/by-header": ("request.headers[x-user]", ["x"]),
        "/has-token": ("request.headers[authorization]", ["*"]),
        "/has-param": ("request.headers[:path]", ["*access_token*", "/has-param?access_token*"]),
        "/exact": ("request.headers[:path]", EXACT),
        "/payload": ("request.headers[x-payload]", ["*"]),
    }
    allowed = [
        {"to": [{"operation": {"paths": [path]}}], "when": [{"key": key, "values": values}]}
        for path, (key, values) in conditions.items()
    ]
    rule = {
        "issuer": "one",
        "jwks": jwks,
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
    }
    made = case("written", [rule])
    return replace(made, documents=[*made.documents, document("AuthorizationPolicy", "left", {"rules": allowed})])


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcer]:
    folder = tmp_path_factory.mktemp("e")
    keys = Authority(folder).jwks  # of somebody else
    authority = Authority(folder)
    jwks = authority.jwks
    made = Enforcer(
        folder,
        [
            case("one", [{"issuer": "one", "jwks": jwks}]),
            case("two", [{"issuer": "one", "jwks": jwks}, {"issuer": "two", "jwks": jwks}]),
            case("audience", [{"issuer": "one", "jwks": jwks, "audiences": ["shop", "cart"]}]),
            case("header", [{"issuer": "one", "jwks": jwks, "fromHeaders": [{"name": "x", "prefix": "T "}]}]),
            case("foreign", [{"issuer": "one", "jwks": keys}]),
            case("undiscovered", [{"issuer": "one"}]),
            case("none", []),
            written(jwks),
        ],
        authority=authority,
    )
    made.start()
    try:
        yield made
    finally:
        made.end()


def status(enforcer: Enforcer, name: str, jwt: dict[str, Any] | None, path: str = "/user", **headers: list[str]) -> int:
    if jwt is not None:
        now = int(time.time())  # exp and nbf are counted from here
        jwt = {name: now + value if name in ("exp", "nbf") else value for name, value in jwt.items()}
    wire = {"method": "GET", "path": path, "authority": "a", "headers": headers, "jwt": jwt}
    (found,) = enforcer.http_status(name, PLAIN, [wire])
    return found


@pytest.mark.parametrize("name", ["one", "two", "audience", "header", "foreign", "undiscovered", "none"])
def test_a_missing_token_passes_and_gives_no_identity(enforcer: Enforcer, name: str) -> None:
    assert status(enforcer, name, None, "/") == 200
    assert status(enforcer, name, None) == 403


@pytest.mark.parametrize(
    ("name", "jwt"),
    [
        ("one", USER),
        ("one", {**USER, "exp": -10}),  # within the skew of 30 s
        ("two", {**USER, "iss": "two"}),
        ("audience", {**USER, "aud": "cart"}),
        ("audience", {**USER, "aud": ["x", "shop"]}),
    ],
)
def test_a_good_token_is_an_identity(enforcer: Enforcer, name: str, jwt: dict[str, Any]) -> None:
    assert status(enforcer, name, jwt) == 200


@pytest.mark.parametrize(
    ("name", "jwt"),
    [
        ("one", {**USER, "iss": "two"}),
        ("one", {**USER, "exp": -100}),
        ("one", {**USER, "nbf": 1000}),
        ("one", {**USER, "aud": 1}),
        ("two", {**USER, "iss": "three"}),
        ("audience", USER),
        ("audience", {**USER, "aud": "x"}),
        ("foreign", USER),
        ("undiscovered", USER),
    ],
)
def test_a_bad_token_is_refused_wherever_it_is_sent(enforcer: Enforcer, name: str, jwt: dict[str, Any]) -> None:
    expected = 403 if name == "audience" else 401  # Envoy's answer to a token that is for somebody else
    assert status(enforcer, name, jwt, "/") == expected
    assert status(enforcer, name, jwt) == expected


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJvbmUiLCJzdWIiOiJ4In0."])
def test_what_is_no_signed_token_is_refused(enforcer: Enforcer, token: str) -> None:
    expected = 401 if token else 200
    assert status(enforcer, "one", None, "/", authorization=[f"Bearer {token}"]) == expected
    assert status(enforcer, "one", None, authorization=[f"Bearer {token}"]) == (401 if token else 403)


def test_a_token_counts_only_where_the_rule_looks_for_it(enforcer: Enforcer) -> None:
    token = enforcer.authority.token(USER)
    assert status(enforcer, "header", USER) == 403
    assert status(enforcer, "header", None, x=[f"T {token}"]) == 200
    assert status(enforcer, "one", None, x=[f"T {token}"]) == 403


def test_without_request_authentication_a_token_is_nothing(enforcer: Enforcer) -> None:
    assert status(enforcer, "none", USER, "/") == 200
    assert status(enforcer, "none", USER) == 403


WRITTEN = [
    (method, path, headers, jwt)
    for path in ("/by-header", "/has-token", "/has-param", "/payload")
    for method, headers, jwt in [
        ("GET", {}, None),
        ("GET", {"x-user": ["x"], "x-payload": ["e30"]}, None),
        ("GET", {}, USER),
        ("GET", {"x-user": ["x"]}, {**USER, "sub": "y"}),
        ("OPTIONS", {"origin": ["http://o"], "access-control-request-method": ["PUT"]}, {**USER, "iss": "three"}),
    ]
]


def test_policies_see_what_the_token_leaves_in_the_request(enforcer: Enforcer) -> None:
    """By a real Envoy, and the decision point: forged headers are taken out, claims are written, tokens taken out."""
    point = deciding(enforcer.sets["written"])
    workload = Workload("b")
    met = set()
    for method, path, headers, jwt in WRITTEN:
        wire = {"method": method, "path": path, "authority": "a", "headers": headers, "jwt": jwt}
        asked = {name: tuple(values) for name, values in headers.items()}
        if jwt is not None:
            asked["authorization"] = (f"Bearer {enforcer.authority.token(jwt)}",)
        request = PLAIN.request(HttpRequest(method, path, "a", asked), {})
        ruling = asyncio.run(point.decide(Question("test", "envoy", workload, (request,))))
        (found,) = enforcer.http_status("written", PLAIN, [wire])
        assert found == ruling.status, (wire, ruling.decision)
        met.add((path, found))
    assert {("/by-header", 200), ("/by-header", 403), ("/payload", 200), ("/has-token", 403)} <= met


def test_a_token_in_the_query_is_taken_out_before_policies_look(enforcer: Enforcer) -> None:
    point = deciding(enforcer.sets["written"])
    for path in (
        "/has-param?access_token={}&a=b",
        "/has-param?a=b&access_token={}",
        "/by-header?access_token={}",
        "/exact?access_token={}",
        "/exact?c=%61+x&b&access_token={}&a=2&a=1",
        "/exact?&a=b=c&&access_token={}&A=1",
        "/exact?access%5Ftoken={}",
        "/exact?%61=1&access_token={}",
        "/exact?a=%26%3D%20%2b%23%zz%&access_token={}&",
        "/exact?access_token={}&access_token=x",
    ):
        target = path.format(enforcer.authority.token(USER))
        wire: dict[str, Any] = {"method": "GET", "path": target, "authority": "a", "headers": {}, "jwt": None}
        request = PLAIN.request(HttpRequest("GET", target, "a", {}), {})
        ruling = asyncio.run(point.decide(Question("test", "envoy", Workload("b"), (request,))))
        (found,) = enforcer.http_status("written", PLAIN, [wire])
        assert found == ruling.status, (path, ruling.decision)
        assert found == (200 if path.startswith(("/by", "/exact")) else 403), path
