"""RequestAuthentication in a real Envoy: a missing token passes without an identity, and a bad one is a 401."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

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
