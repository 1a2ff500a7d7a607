"""Policy sets: which policies apply to whom, versions, and what is compiled anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from citadel.authz.facts import MeshFacts
from citadel.authz.index import Index
from citadel.authz.model import (
    Action,
    AuthorizationPolicy,
    Document,
    Metadata,
    Operation,
    PeerAuthentication,
    PolicyName,
    Rule,
    Source,
    TargetKind,
    TargetRef,
    WorkloadSelector,
)
from citadel.authz.policyset import compile_documents
from citadel.authz.request import ServiceRef, Workload, WorkloadKind
from citadel.authz.subject import Subject
from tests.unit.authz.world import FACTS, SHOP, compiled, decided, get, policy

ROOT = FACTS.root_namespace
CART = WorkloadSelector((("app", "cart"),))


def names(workload: Workload, *policies: AuthorizationPolicy) -> list[str]:
    return [str(one.name) for one in compiled(*policies).for_workload(workload).policies]


def test_policies_of_the_namespace_and_of_the_root_namespace_apply() -> None:
    policies = [policy(namespace=namespace) for namespace in ("shop", "bank", ROOT)]
    assert names(SHOP, *policies) == [f"{ROOT}/p", "shop/p"]


def test_a_workload_in_the_root_namespace_has_each_policy_once() -> None:
    assert names(Workload(ROOT), policy(namespace=ROOT)) == [f"{ROOT}/p"]


@pytest.mark.parametrize(
    ("wanted", "applies"),
    [
        ((), True),
        ((("app", "cart"),), True),
        ((("app", "cart"), ("v", "1")), True),
        ((("app", "web"),), False),
        ((("app", "cart"), ("v", "2")), False),
        ((("zone", "a"),), False),
    ],
)
@pytest.mark.parametrize("namespace", ["shop", ROOT])
def test_a_selector_is_a_subset_of_the_labels(
    wanted: tuple[tuple[str, str], ...], applies: bool, namespace: str
) -> None:
    workload = Workload("shop", {"app": "cart", "v": "1"})
    found = names(workload, policy(namespace=namespace, selector=WorkloadSelector(wanted)))
    assert bool(found) is applies


GATEWAY = TargetRef(TargetKind.GATEWAY, "g")
SERVICE = TargetRef(TargetKind.SERVICE, "s")
ENTRY = TargetRef(TargetKind.SERVICE_ENTRY, "s")
CLASS = TargetRef(TargetKind.GATEWAY_CLASS, "istio-waypoint")
WAYPOINT = Workload("shop", kind=WorkloadKind.WAYPOINT, gateway="g", services=(ServiceRef("shop", "s"),))


@pytest.mark.parametrize(
    ("workload", "namespace", "target", "applies"),
    [
        (Workload("shop"), "shop", GATEWAY, False),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="g"), "shop", GATEWAY, True),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="h"), "shop", GATEWAY, False),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="g"), ROOT, GATEWAY, False),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="g"), "shop", None, True),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="g"), "shop", SERVICE, False),
        (WAYPOINT, "shop", GATEWAY, True),
        (WAYPOINT, "shop", None, False),
        (WAYPOINT, ROOT, None, False),
        (WAYPOINT, "shop", SERVICE, True),
        (WAYPOINT, "shop", ENTRY, False),
        (WAYPOINT, "bank", SERVICE, False),
        (replace(WAYPOINT, services=(ServiceRef("bank", "s"),)), "bank", SERVICE, True),
        (replace(WAYPOINT, services=(ServiceRef("bank", "s"),)), "bank", GATEWAY, False),
        (WAYPOINT, ROOT, CLASS, True),
        (WAYPOINT, "shop", CLASS, False),
        (Workload("shop", kind=WorkloadKind.GATEWAY, gateway="g"), ROOT, CLASS, False),
    ],
)
def test_target_refs(workload: Workload, namespace: str, target: TargetRef | None, applies: bool) -> None:
    one = policy(namespace=namespace, target_refs=() if target is None else (target,))
    assert bool(names(workload, one)) is applies


# --- versions


def test_the_version_names_the_content_in_whatever_order() -> None:
    one, two = policy(name="a"), policy(name="b")
    assert compiled(one, two).version == compiled(two, one).version
    assert compiled(one).version != compiled(two).version != compiled().version


def test_every_document_and_every_fact_counts_for_the_version() -> None:
    documents: list[Document] = [policy(), PeerAuthentication(Metadata(PolicyName("shop", "p")))]
    facts = [FACTS, replace(FACTS, root_namespace="root"), replace(FACTS, space_delimited_claims=frozenset({"a"}))]
    versions = {compile_documents(documents[:n], one).version for n in (1, 2) for one in facts}
    assert len(versions) == 6


def test_the_order_of_a_set_of_claims_does_not_count_for_the_version() -> None:
    claims = [frozenset("abcdefgh"), frozenset("hgfedcba")]
    assert len({compiled(facts=replace(FACTS, space_delimited_claims=one)).version for one in claims}) == 1


# --- compiling anew


def test_only_what_is_new_is_compiled_and_the_result_is_the_same() -> None:
    before = compiled(policy(Action.DENY, Rule(), name="a"), policy(name="b"), policy(name="c", namespace="bank"))
    documents = [policy(Action.DENY, Rule(), name="a"), policy(Action.DENY, name="b")]
    after = compile_documents(documents, FACTS, before)
    assert after.compiled[0] is before.compiled[1]  # equal, though another object
    assert after.compiled[1] is not before.compiled[2]
    assert after.version == compile_documents(documents, FACTS).version
    assert [str(one.name) for one in after.for_workload(SHOP).policies] == ["shop/a", "shop/b"]


def test_other_facts_compile_everything_anew() -> None:
    facts = MeshFacts(FACTS.trust_domain, root_namespace="bank")
    before = compiled(policy(), policy(namespace="bank"))
    after = compile_documents([one.policy for one in before.compiled], facts, before)
    assert after.compiled[0] is not before.compiled[0]
    assert len(after.for_workload(SHOP).policies) == 2
    assert len(before.for_workload(SHOP).policies) == 1


# --- the index


def many(number: int) -> list[AuthorizationPolicy]:
    return [
        policy(
            Action.ALLOW,
            Rule(
                (Source(principals=(f"td/ns/n{i}/sa/x",)), Source(namespaces=(f"m{i}",))),
                (Operation(paths=(f"/api/{i}/*",), methods=("GET",)), Operation(hosts=(f"*.h{i}",))),
            ),
            name=f"p{i}",
        )
        for i in range(number)
    ]


def test_of_many_policies_few_are_looked_at() -> None:
    policies = many(500)
    index = Index(rule for one in compiled(*policies).compiled for rule in one.http)
    for request in (get("/api/7/x", "td/ns/n7/sa/x"), get("/api/7/x", "td/ns/m8/sa/x", authority="a.h8")):
        assert len(set(index.candidates(Subject(request, FACTS)))) <= 3
        assert decided(request, *policies).allowed


def test_policies_of_one_selector_share_their_index_among_workloads() -> None:
    policies = compiled(*(replace(one, selector=CART) for one in many(100)))
    one, other = (policies.for_workload(Workload("shop", {"app": "cart", "v": version})) for version in "12")
    assert one is not other
    assert one.http[0] is other.http[0]


def test_a_rule_with_many_sources_and_operations_is_found_by_what_all_of_them_name() -> None:
    rule = Rule(
        tuple(Source(principals=(f"td/ns/n{i}/sa/x",), namespaces=("a",) if i % 2 else ()) for i in range(20)),
        tuple(Operation(paths=(f"/p{i}",), methods=("GET",) if i % 2 else ()) for i in range(20)),
    )
    policies = [policy(Action.ALLOW, rule, name="big"), *many(20)]
    assert decided(get("/p2", "td/ns/n4/sa/x", method="POST"), *policies).allowed
    assert not decided(get("/p3", "td/ns/n4/sa/x", method="POST"), *policies).allowed
    assert not decided(get("/p2", "td/ns/n20/sa/x", method="POST"), *policies).allowed


def test_more_workloads_than_are_kept_are_still_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citadel.authz.policyset.MOST_WORKLOADS", 3)
    policies = compiled(policy(selector=CART))
    for number in range(10):
        assert len(policies.for_workload(Workload("shop", {"app": "cart", "v": str(number)})).policies) == 1
        assert len(policies.for_workload(Workload("shop", {"app": "web", "v": str(number)})).policies) == 0
