"""What each field of a rule matches: the table of the specification, row by row, from both sides."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from citadel.authz.facts import MeshFacts, PathNormalization
from citadel.authz.model import Action, Attribute, ConditionKey, Operation, Rule, Source
from citadel.authz.request import Request
from citadel.spiffe import TrustDomain
from tests.unit.authz.world import FACTS, decided, get, policy, tcp, when


def holds(rule: Rule, request: Request, facts: MeshFacts = FACTS) -> bool:
    return decided(request, policy(Action.ALLOW, rule), facts=facts).allowed


def source(field: str, value: Any) -> Rule:
    return Rule(sources=(Source(**{field: (value,)}),))


def operation(field: str, value: Any) -> Rule:
    return Rule(operations=(Operation(**{field: (value,)}),))


Make = Callable[[str, Any], Rule]


def both_ways(make: Make, field: str, value: Any, request: Request, matches: bool) -> None:
    """The positive form matches just if the negative does not."""
    assert holds(make(field, value), request) is matches
    assert holds(make(f"not_{field}", value), request) is not matches


@pytest.mark.parametrize(
    ("value", "peer", "matches"),
    [
        ("td/ns/a/sa/x", "td/ns/a/sa/x", True),
        ("td/ns/a/sa/x", "td/ns/a/sa/xy", False),
        ("td/ns/a/*", "td/ns/a/sa/x", True),
        ("*/sa/x", "td/ns/a/sa/x", True),
        ("td/*/sa/x", "td/ns/a/sa/x", False),
        ("*", "td/ns/a/sa/x", True),
        ("*", None, False),
        ("td/ns/a/sa/x", None, False),
        ("spiffe://td/ns/a/sa/x", "td/ns/a/sa/x", False),
        ("cluster.local/ns/a/sa/x", "td/ns/a/sa/x", True),
        ("cluster.local/ns/a/sa/x", "cluster.local/ns/a/sa/x", False),
        ("cluster.local/ns/a/*", "td/ns/a/sa/x", False),
        ("*local/ns/a/sa/x", "cluster.local/ns/a/sa/x", True),
    ],
)
def test_principals(value: str, peer: str | None, matches: bool) -> None:
    both_ways(source, "principals", value, tcp(peer), matches)


@pytest.mark.parametrize(
    ("value", "peer", "matches"),
    [
        ("a", "td/ns/a/sa/x", True),
        ("a", "other/ns/a/sa/x", True),
        ("a", "td/ns/ab/sa/x", False),
        ("a*", "td/ns/ab/sa/x", True),
        ("*b", "td/ns/ab/sa/x", True),
        ("a*b", "td/ns/a/sa/b/x", True),
        ("*", "td/ns/a/sa/x", True),
        ("*", "td/ns/a", False),
        ("a", "td/ns/a", False),
        ("*", "td/x", False),
        ("*", None, False),
        ("a", "td/region/ns/a/sa/x", True),
        ("a", "ns/a/sa/x", False),
    ],
)
def test_namespaces(value: str, peer: str | None, matches: bool) -> None:
    both_ways(source, "namespaces", value, tcp(peer), matches)


@pytest.mark.parametrize(
    ("value", "peer", "matches"),
    [
        ("a/x", "td/ns/a/sa/x", True),
        ("a/x", "other/ns/a/sa/x", True),
        ("a/x", "td/ns/a/sa/xy", False),
        ("a/x", "td/ns/a/sa/x/more", True),
        ("a/x", "td/ns/a/v/1/sa/x", True),
        ("a/x", "td/sa/x/ns/a", False),
        ("a/x", None, False),
        ("ns/sa", "td/ns/ns/sa/sa", True),
        ("sa/x", "td/ns/sa/x", False),
    ],
)
def test_service_accounts(value: str, peer: str | None, matches: bool) -> None:
    both_ways(source, "service_accounts", value, tcp(peer), matches)


@pytest.mark.parametrize(
    ("value", "peer", "matches"),
    [
        ("td", "td/ns/a/sa/x", True),
        ("td", "td2/ns/a/sa/x", False),
        ("td*", "td2/x", True),
        ("*2", "td2/x", True),
        ("t*2", "td2/x", True),
        ("td2*2", "td2/x", False),
        ("*", "td2/x", True),
        ("*", "td2", True),
        ("td2", "td2", False),
        ("*", None, False),
    ],
)
def test_trust_domains(value: str, peer: str | None, matches: bool) -> None:
    both_ways(source, "trust_domains", value, tcp(peer), matches)


@pytest.mark.parametrize(
    ("value", "address", "matches"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.7/32", "10.0.0.7", True),
        ("0.0.0.0/0", "1.2.3.4", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "1.2.3.4", False),
        ("fd00::/8", "fdff::1", True),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("0.0.0.0/0", None, False),
    ],
)
def test_ip_blocks(value: str, address: str | None, matches: bool) -> None:
    found = None if address is None else ip_address(address)
    both_ways(source, "ip_blocks", ip_network(value), tcp(source=address), matches)
    both_ways(source, "remote_ip_blocks", ip_network(value), tcp(remote_ip=found), matches)
    condition = ConditionKey(Attribute.DESTINATION_IP)
    assert holds(when(condition, (value,)), tcp(destination_ip=found)) is matches
    assert holds(when(condition, (), (value,)), tcp(destination_ip=found)) is not matches


@pytest.mark.parametrize(
    ("value", "jwt", "matches"),
    [
        ("i/s", {"iss": "i", "sub": "s"}, True),
        ("https://i/x/s", {"iss": "https://i/x", "sub": "s"}, True),
        ("https://i/x/s", {"iss": "https://i", "sub": "x/s"}, False),
        ("*", {"iss": "i", "sub": "s"}, True),
        ("*", {"iss": "i", "sub": ""}, False),
        ("*", {"iss": "i"}, False),
        ("*", None, False),
        ("*x/s", {"iss": "ax", "sub": "s"}, True),
        ("*/s", {"iss": "ax", "sub": "s"}, True),
        ("*/s", {"iss": "", "sub": "s"}, False),
        ("*x", {"iss": "i", "sub": "ax"}, True),
        ("i/s*", {"iss": "i", "sub": "s2"}, True),
        ("i/*", {"iss": "i", "sub": "s"}, True),
        ("i/*", {"iss": "i", "sub": ""}, False),
        ("i*", {"iss": "i2", "sub": "s"}, True),
        ("i", {"iss": "i", "sub": ""}, True),
        ("i", {"iss": "i", "sub": "s"}, False),
        ("i", {"iss": "i"}, False),
        ("*/*", {"iss": "i", "sub": "s"}, False),
        ("*/*", {"iss": "i", "sub": "*"}, True),
        ("i/1", {"iss": "i", "sub": 1}, False),
    ],
)
def test_request_principals(value: str, jwt: dict[str, Any] | None, matches: bool) -> None:
    both_ways(source, "request_principals", value, get(jwt=jwt), matches)


@pytest.mark.parametrize(
    ("value", "authority", "matches"),
    [
        ("a.b", "A.B", True),
        ("A.b", "a.B", True),
        ("a.b", "a.b:80", False),
        ("a.b:*", "a.b:80", True),
        ("a.b", "a.b.", False),
        ("*.b", "A.B", True),
        ("*", "", True),
        ("*", None, False),
        ("k", "\u212a", False),  # the Kelvin sign, whose lower case is a k to Python
    ],
)
def test_hosts(value: str, authority: str | None, matches: bool) -> None:
    both_ways(operation, "hosts", value, get(authority=authority), matches)


@pytest.mark.parametrize(
    ("value", "method", "matches"),
    [("GET", "GET", True), ("GET", "get", False), ("G*", "GET", True), ("*T", "GET", True), ("*", "", True)],
)
def test_methods(value: str, method: str, matches: bool) -> None:
    both_ways(operation, "methods", value, get(method=method), matches)


@pytest.mark.parametrize(
    ("value", "path", "matches"),
    [
        ("/a", "/a?b", True),
        ("/a", "/a/", False),
        ("/a*", "/a/b", True),
        ("*/b", "/a/b?c", True),
        ("/a*b", "/axb", False),
        ("*", "/", True),
        ("*", "", False),
        ("/a?b", "/a?b", False),
        ("/admin", "/x/../%61dmin", True),
        ("/a/{*}", "/a/x=y", True),
        ("/a/{*}", "/a/x/y", False),
        ("/a/{**}", "", False),
    ],
)
def test_paths(value: str, path: str, matches: bool) -> None:
    both_ways(operation, "paths", value, get(path), matches)


def test_the_mode_of_the_mesh_decides_how_paths_are_normalised() -> None:
    facts = MeshFacts(TrustDomain("td"), path_normalization=PathNormalization.DECODE_AND_MERGE_SLASHES)
    rule = operation("paths", "/admin")
    assert holds(rule, get("/x%2f..//admin"), facts)
    assert not holds(rule, get("/x%2f..//admin"))


@pytest.mark.parametrize(("port", "matches"), [(80, True), (8080, False), (None, False)])
def test_ports(port: int | None, matches: bool) -> None:
    both_ways(operation, "ports", 80, tcp(port=port), matches)


JWT: dict[str, Any] = {
    "aud": ["x", "y", 1],
    "azp": "x",
    "one": "x",
    "empty": "",
    "number": 1,
    "yes": True,
    "none": [],
    "deep": {"er": ["x"], "scope": "a b"},
    "scope": "read  write",
    "groups": "a b",
}


@pytest.mark.parametrize(
    ("key", "value", "matches"),
    [
        (ConditionKey(Attribute.REQUEST_AUDIENCES), "y", True),
        (ConditionKey(Attribute.REQUEST_AUDIENCES), "z", False),
        (ConditionKey(Attribute.REQUEST_PRESENTER), "x", True),
        *(
            (ConditionKey(Attribute.REQUEST_CLAIMS, path), value, matches)
            for path, value, matches in [
                (("one",), "x", True),
                (("one",), "*", True),
                (("empty",), "*", False),
                (("missing",), "*", False),
                (("number",), "1", False),
                (("yes",), "*", False),
                (("none",), "*", False),
                (("deep",), "*", False),
                (("deep", "er"), "x", True),
                (("deep", "er", "x"), "*", False),
                (("scope",), "write", True),
                (("scope",), "read  write", False),
                (("deep", "scope"), "a b", True),
                (("groups",), "a", False),
                (("aud",), "x*", True),
            ]
        ),
    ],
)
def test_claims(key: ConditionKey, value: str, matches: bool) -> None:
    request = get(jwt=JWT)
    assert holds(when(key, (value,)), request) is matches
    assert holds(when(key, (), (value,)), request) is not matches
    assert not holds(when(key, (value,)), get())
    assert holds(when(key, (), (value,)), get())


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("x", "a", True),
        ("x", "b", True),
        ("x", "a,b", False),
        ("x", "*", True),
        ("empty", "*", True),
        ("missing", "*", False),
        ("accept", "a", False),
        ("accept", "a,b", True),
        (":method", "GET", True),
        (":path", "/b?q", True),
        (":path", "/b", False),
        (":authority", "Cart", True),
        (":authority", "cart", False),
        ("host", "Cart", True),
        ("host", "*", True),
    ],
)
def test_headers(name: str, value: str, matches: bool) -> None:
    headers = {"x": ("a", "b"), "accept": ("a", "b"), "empty": ("",)}
    request = get("/a/../b?q", authority="Cart", headers=headers)
    key = ConditionKey(Attribute.REQUEST_HEADERS, (name,))
    assert holds(when(key, (value,)), request) is matches
    assert holds(when(key, (), (value,)), request) is not matches


@pytest.mark.parametrize(
    ("sni", "value", "matches"),
    [("a.b", "a.b", True), ("A.b", "a.b", True), ("a.b", "A.b", False), ("", "*", False), ("a.b", "*", True)],
)
def test_sni(sni: str, value: str, matches: bool) -> None:
    key = ConditionKey(Attribute.CONNECTION_SNI)
    assert holds(when(key, (value,)), tcp(sni=sni)) is matches
    assert holds(when(key, (), (value,)), tcp(sni=sni)) is not matches


@pytest.mark.parametrize(
    ("value", "found", "matches"),
    [
        ("a", "a", True),
        ("*", "", False),
        ("a", ["a"], False),
        ("[a]", ["b", "a"], True),
        ("[a*]", ["ab"], True),
        ("[a]", "a", False),
        ("[*]", [1], False),
        ("a", None, False),
        ("a", {"a": "a"}, False),
    ],
)
def test_dynamic_metadata(value: str, found: Any, matches: bool) -> None:
    key = ConditionKey(Attribute.ENVOY_FILTERS, ("envoy.filters.f", "k"))
    request = tcp(metadata={"envoy.filters.f": {"k": found}})
    assert holds(when(key, (value,)), request) is matches
    assert holds(when(key, (), (value,)), request) is not matches


# --- how fields are put together


def test_values_of_a_field_are_alternatives_and_fields_are_not() -> None:
    rule = Rule(operations=(Operation(methods=("GET", "PUT"), paths=("/a",), not_paths=("/b",)),))
    assert holds(rule, get("/a"))
    assert holds(rule, get("/a", method="PUT"))
    assert not holds(rule, get("/a", method="POST"))
    assert not holds(rule, get("/c"))


def test_sources_are_alternatives_and_must_meet_an_operation_and_all_conditions() -> None:
    rule = Rule(
        sources=(Source(namespaces=("a",)), Source(namespaces=("b",))),
        operations=(Operation(paths=("/a",)), Operation(paths=("/b",))),
        conditions=when(ConditionKey(Attribute.REQUEST_HEADERS, ("x",)), ("1",)).conditions,
    )
    one = {"x": ("1",)}
    assert holds(rule, get("/b", "td/ns/a/sa/x", headers=one))
    assert holds(rule, get("/a", "td/ns/b/sa/x", headers=one))
    assert not holds(rule, get("/a", "td/ns/c/sa/x", headers=one))
    assert not holds(rule, get("/c", "td/ns/a/sa/x", headers=one))
    assert not holds(rule, get("/a", "td/ns/a/sa/x"))


def test_no_identity_is_none_of_the_principals_so_that_a_deny_of_the_rest_blocks_plaintext() -> None:
    deny = policy(Action.DENY, Rule(sources=(Source(not_principals=("*",)),)))
    assert not decided(tcp(None), deny).allowed
    assert decided(tcp(), deny).allowed


ALIASED = MeshFacts(TrustDomain("new"), (TrustDomain("old"),))


@pytest.mark.parametrize(
    ("value", "peer", "matches"),
    [
        ("old/ns/a/sa/x", "new/ns/a/sa/x", True),
        ("new/ns/a/sa/x", "old/ns/a/sa/x", True),
        ("cluster.local/ns/a/sa/x", "old/ns/a/sa/x", True),
        ("cluster.local/ns/a/sa/x", "cluster.local/ns/a/sa/x", False),
        ("other/ns/a/sa/x", "new/ns/a/sa/x", False),
        ("old/ns/a/sa/*", "new/ns/a/sa/x", True),
        ("old/ns/a/*", "new/ns/a/sa/x", False),
        ("*ld/ns/a/sa/x", "new/ns/a/sa/x", True),
        ("*ld/ns/a/sa/x", "mold/ns/a/sa/x", True),
        ("*/ns/a/sa/x", "other/ns/a/sa/x", True),
    ],
)
def test_each_of_our_trust_domains_stands_for_all_of_them(value: str, peer: str, matches: bool) -> None:
    assert holds(source("principals", value), tcp(peer), ALIASED) is matches
    assert holds(source("not_principals", value), tcp(peer), ALIASED) is not matches


def test_trust_domains_are_expanded_only_if_they_are_written_out() -> None:
    assert holds(source("trust_domains", "old"), tcp("new/x"), ALIASED)
    assert not holds(source("trust_domains", "ol*"), tcp("new/x"), ALIASED)
    assert not holds(source("trust_domains", "cluster.local"), tcp("new/x"), ALIASED)
