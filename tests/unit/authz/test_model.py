"""The values of authz: what they promise by themselves."""

import pytest

from citadel.authz import Attribute, ConditionKey, ExtensionProvider, MeshFacts, PolicyName, WorkloadSelector
from citadel.authz.facts import ProviderProtocol
from citadel.spiffe import TrustDomain


@pytest.mark.parametrize(
    ("labels", "selected"),
    [
        ({"app": "shop", "tier": "web"}, True),
        ({"app": "shop", "tier": "web", "more": "x"}, True),
        ({"app": "shop"}, False),
        ({"app": "shop", "tier": "db"}, False),
        ({}, False),
    ],
)
def test_a_selector_is_a_subset_of_the_labels(labels: dict[str, str], selected: bool) -> None:
    assert WorkloadSelector((("app", "shop"), ("tier", "web"))).selects(labels) is selected


def test_a_selector_without_labels_selects_every_workload() -> None:
    assert WorkloadSelector().selects({})
    assert WorkloadSelector().selects({"app": "shop"})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ConditionKey(Attribute.SOURCE_IP), "source.ip"),
        (ConditionKey(Attribute.REQUEST_HEADERS, (":path",)), "request.headers[:path]"),
        (ConditionKey(Attribute.REQUEST_CLAIMS, ("realm", "roles")), "request.auth.claims[realm][roles]"),
        (ConditionKey(Attribute.ENVOY_FILTERS, ("envoy.filters.a.b", "k")), "experimental.envoy.filters.a.b[k]"),
    ],
)
def test_a_condition_key_is_written_as_in_a_policy(key: ConditionKey, text: str) -> None:
    assert str(key) == text


def test_only_what_a_tcp_connection_lacks_is_http_only() -> None:
    assert {a.value for a in Attribute if a.http_only} == {
        "request.headers",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims",
    }


def test_a_provider_is_found_by_its_name_or_not_at_all() -> None:
    opa = ExtensionProvider("opa", ProviderProtocol.GRPC, "opa.local", 9000)
    facts = MeshFacts(TrustDomain("prod.example"), providers=(opa,))
    assert facts.provider("opa") is opa
    assert facts.provider("Opa") is None


def test_names_sort_by_namespace_then_name() -> None:
    assert sorted([PolicyName("b", "a"), PolicyName("a", "z")]) == [PolicyName("a", "z"), PolicyName("b", "a")]
    assert str(PolicyName("shop", "allow-web")) == "shop/allow-web"
