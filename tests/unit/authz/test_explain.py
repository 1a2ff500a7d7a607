from __future__ import annotations

import json
from dataclasses import replace

from citadel.authz.explain import explain
from citadel.authz.model import Action, Attribute, ConditionKey, Operation, Rule, Source
from citadel.spiffe import SpiffeId
from tests.unit.authz.world import SHOP, compiled, get, policy, tcp, when

READERS = Rule(
    sources=(Source(principals=("cluster.local/ns/a/sa/x",)), Source(namespaces=("b",), not_namespaces=("c",))),
    operations=(Operation(methods=("GET",), paths=("/a",)),),
    conditions=when(ConditionKey(Attribute.REQUEST_HEADERS, ("x",)), ("1",)).conditions,
)
POLICIES = compiled(
    policy(Action.ALLOW, READERS, name="readers"),
    policy(Action.DENY, Rule(operations=(Operation(not_paths=("/a",)),)), name="no-others"),
    policy(Action.ALLOW, name="nothing", dry_run=True),
    policy(Action.ALLOW, name="elsewhere", namespace="bank"),
)


def test_each_applicable_policy_tells_why_it_did_not_match_with_both_values() -> None:
    text = explain(POLICIES, SHOP, get("/x/../a", "td/ns/shop/sa/web")).to_text()
    assert text.splitlines() == [
        "deny (no-allow-matched)",
        "DENY shop/no-others: did not match",
        '  rules[0].to[0].operation.notPaths wants none of "/a"; it is "/a"',
        "ALLOW shop/nothing: has no rules, so it never matches (dry run)",
        "ALLOW shop/readers: did not match",
        '  rules[0].from[0].source.principals wants one of "td/ns/a/sa/x"; it is "td/ns/shop/sa/web"',
        '  rules[0].from[1].source.namespaces wants one of "b"; it is "shop"',
    ]


def test_the_first_criterion_that_failed_is_told_and_that_an_attribute_is_missing() -> None:
    (failure,) = explain(POLICIES, SHOP, get("/a", "td/ns/a/sa/x")).policies[2].rules[0].failures
    assert str(failure) == 'rules[0].when[0][request.headers[x]].values wants one of "1"; it is missing'


def test_what_matched_says_so_and_the_decision_is_the_engine_s() -> None:
    found = explain(POLICIES, SHOP, get("/b"))
    assert found.to_text().splitlines()[:3] == [
        "deny (denied-by-policy): DENY shop/no-others, rules[0]",
        "DENY shop/no-others: matched",
        "  rules[0] matched",
    ]


def test_as_a_tree() -> None:
    tree = explain(POLICIES, SHOP, get("/a", "td/ns/b/sa/x", headers={"x": ("2", "3")})).to_tree()
    assert tree.splitlines() == [
        "deny (no-allow-matched)",
        "├── DENY shop/no-others: did not match",
        '│   └── rules[0].to[0].operation.notPaths wants none of "/a"; it is "/a"',
        "├── ALLOW shop/nothing: has no rules, so it never matches (dry run)",
        "└── ALLOW shop/readers: did not match",
        '    └── rules[0].when[0][request.headers[x]].values wants one of "1"; it is ["2", "3"]',
    ]


def test_as_json() -> None:
    found = json.loads(json.dumps(explain(POLICIES, SHOP, get("//a?q", "td/ns/b/sa/x")).to_json()))
    assert found["schema"] == "citadel.dev/explanation/v1"
    assert (found["version"], found["path"]) == (POLICIES.version, "//a")
    assert found["decision"]["reason"] == "denied-by-policy"
    assert [(one["policy"], one["matched"]) for one in found["policies"]] == [
        ("shop/no-others", True),
        ("shop/nothing", False),
        ("shop/readers", False),
    ]
    assert found["policies"][2]["rules"][0]["failures"][0] == {
        "field": "rules[0].to[0].operation.paths",
        "wanted": ["/a"],
        "negated": False,
        "actual": "//a",
        "of_unknown_domain": False,
    }


def test_a_peer_of_an_unknown_trust_domain_is_shown_as_such() -> None:
    asked = replace(get("/a", headers={"x": ("1",)}), peer=None, unknown_peer=SpiffeId.parse("spiffe://td/ns/a/sa/x"))
    failure = explain(POLICIES, SHOP, asked).policies[-1].rules[0].failures[0]
    assert str(failure).endswith('; it is "td/ns/a/sa/x", of a trust domain that is not known here')


def test_on_tcp_it_is_told_which_rules_are_dropped_and_which_widen() -> None:
    http = when(ConditionKey(Attribute.REQUEST_HEADERS, ("x",)), ("1",)).conditions
    sni = when(ConditionKey(Attribute.CONNECTION_SNI), ("a",)).conditions
    policies = compiled(
        policy(Action.ALLOW, READERS, name="a"), policy(Action.DENY, Rule(conditions=http + sni), name="d")
    )
    assert explain(policies, SHOP, tcp()).to_text().splitlines() == [
        "deny (no-allow-matched)",
        "DENY shop/d: did not match",
        '  rules[0].when[1][connection.sni].values wants one of "a"; it is ""',
        "  rules[0]: its fields of HTTP do not count for a TCP connection: it matches more than is written",
        "ALLOW shop/a: did not match",
        "  rules[0]: dropped: an ALLOW rule that uses fields of HTTP does not count for a TCP connection",
    ]


def test_a_custom_policy_that_matched_says_whom_to_ask() -> None:
    found = explain(compiled(policy(Action.CUSTOM, Rule())), SHOP, get())
    assert found.to_text().splitlines()[:2] == [
        "ask grpc: CUSTOM shop/p matched",
        "CUSTOM shop/p: matched (asks grpc)",
    ]
    assert found.to_json()["decision"] == {"ask": "grpc", "policy": "shop/p"}


def test_a_bad_path_is_all_there_is_to_say() -> None:
    found = explain(POLICIES, SHOP, get("/a b"))
    assert found.policies == ()
    assert "deny (bad-path)" in found.to_text()


def test_a_defect_of_ours_is_told_and_not_raised() -> None:
    found = explain(POLICIES, SHOP, get(None))  # type: ignore[arg-type]  # what must not be
    assert "deny (internal-error)" in found.to_text()
