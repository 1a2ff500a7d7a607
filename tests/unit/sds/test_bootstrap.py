"""The generated bootstrap: what is in it, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from citadel.errors import InvalidInput
from citadel.sds.bootstrap import Address, Inbound, Plan, Upstream, Variant, bootstrap
from citadel.spiffe import SpiffeId, TrustDomain

DOMAIN = TrustDomain.parse("example.org")
IDS = tuple(SpiffeId.parse(f"spiffe://example.org/{name}") for name in ("cart", "cart-canary"))
INBOUND = Inbound(Address("0.0.0.0", 8443), Address("127.0.0.1", 8080))
UPSTREAM = Upstream("cart", Address("127.0.0.1", 9001), Address("cart.internal", 8443), IDS)


def plan(**more: Any) -> Plan:
    given: dict[str, Any] = {"inbound": INBOUND, "upstreams": [UPSTREAM]} | more
    return Plan(DOMAIN, "one", "/run/citadel/workload.sock", **given)


def listener(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["static_resources"]["listeners"] if one["name"] == name)


def cluster(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["static_resources"]["clusters"] if one["name"] == name)


def managers(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        chain["filters"][0]["typed_config"]
        for one in document["static_resources"]["listeners"]
        for chain in one["filter_chains"]
    ]


def contexts(document: dict[str, Any]) -> list[dict[str, Any]]:
    down = listener(document, "inbound")["filter_chains"][0]["transport_socket"]["typed_config"]
    return [down, cluster(document, "cart")["transport_socket"]["typed_config"]]


@pytest.mark.parametrize("variant", Variant)
def test_a_validation_context_is_never_without_a_matcher(variant: Variant) -> None:
    for context in contexts(bootstrap(plan(variant=variant))):
        combined = context["common_tls_context"]["combined_validation_context"]
        assert combined["default_validation_context"]["match_typed_subject_alt_names"]
        assert "validation_context_sds_secret_config" not in context["common_tls_context"]


def test_an_upstream_is_one_of_the_exact_ids_and_a_caller_of_the_trust_domain() -> None:
    down, up = contexts(bootstrap(plan()))
    assert down["require_client_certificate"] is True
    matchers = [
        one["common_tls_context"]["combined_validation_context"]["default_validation_context"][
            "match_typed_subject_alt_names"
        ]
        for one in (down, up)
    ]
    assert matchers == [
        [{"san_type": "URI", "matcher": {"prefix": "spiffe://example.org/"}}],
        [{"san_type": "URI", "matcher": {"exact": spiffe_id.uri}} for spiffe_id in IDS],
    ]


def test_no_session_outlives_its_certificate_and_no_connection_its_bound() -> None:
    document = bootstrap(plan(max_connection_seconds=600))
    down, up = contexts(document)
    assert down["disable_stateless_session_resumption"] is True
    assert down["disable_stateful_session_resumption"] is True
    assert up["max_session_keys"] == 0
    assert {c["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"] for c in (down, up)} == {"TLSv1_3"}
    for manager in managers(document):
        assert manager["common_http_protocol_options"] == {"max_connection_duration": "600s"}
        assert manager["drain_timeout"] == "2s"
    (options,) = cluster(document, "cart")["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"max_connection_duration": "540s"}  # before the other side's


def test_paths_are_normalised_and_what_callers_say_of_their_certificates_is_thrown_away() -> None:
    for manager in managers(bootstrap(plan(inbound=Inbound(INBOUND.listen, INBOUND.application, permissive=True)))):
        assert (manager["normalize_path"], manager["merge_slashes"]) == (True, True)
        assert manager["path_with_escaped_slashes_action"] == "UNESCAPE_AND_FORWARD"
        if manager["stat_prefix"] == "inbound":
            assert manager["forward_client_cert_details"] == "SANITIZE_SET"
        else:
            assert "forward_client_cert_details" not in manager  # Envoy's default: taken out


def test_a_permissive_listener_tells_tls_from_plain_connections() -> None:
    document = bootstrap(plan(inbound=Inbound(INBOUND.listen, INBOUND.application, permissive=True)))
    tls, plain = listener(document, "inbound")["filter_chains"]
    assert (tls["filter_chain_match"], plain["filter_chain_match"]) == (
        {"transport_protocol": "tls"},
        {"transport_protocol": "raw_buffer"},
    )
    assert ("transport_socket" in tls, "transport_socket" in plain) == (True, False)


@pytest.mark.parametrize(
    ("variant", "kind", "ads"),
    [("sotw", "GRPC", False), ("delta", "DELTA_GRPC", False), ("ads", "GRPC", True), ("delta-ads", "DELTA_GRPC", True)],
)
def test_secrets_come_as_asked_and_streams_come_back_at_once(variant: str, kind: str, ads: bool) -> None:
    document = bootstrap(plan(variant=Variant(variant)))
    common = [context["common_tls_context"] for context in contexts(document)]
    down, up = (one["tls_certificate_sds_secret_configs"][0]["sds_config"] for one in common)
    assert ("ads" in down, "ads" in up) == (ads, False)  # an upstream's over ADS crashes Envoy 1.40
    source = document["dynamic_resources"]["ads_config"] if ads else down["api_config_source"]
    assert (source["api_type"], source["set_node_on_first_message_only"]) == (kind, True)
    back_off = source["grpc_services"][0]["envoy_grpc"]["retry_policy"]["retry_back_off"]
    assert back_off == {"base_interval": "0.1s", "max_interval": "0.5s"}


@pytest.mark.parametrize(
    "text",
    ["", "8080", "host", ":8080", "host:0", "host:65536", "host:x", "::1:80", "[::1:80", "[host]:80", "unix:relative",
     "unix:", "unix:/" + "x" * 200, "host:８０"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Address.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "host.name:8080", "[::1]:443", "unix:/run/app.sock"])
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("name", ["", "citadel_sds", "application", "a b", "x/y", "-x", "n" * 65])
def test_an_upstream_cannot_have_a_name_of_ours_or_none(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name an upstream"):
        Upstream(name, Address("127.0.0.1", 1), Address("h", 2), IDS)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to do"):
        bootstrap(plan(inbound=None, upstreams=[]))
    with pytest.raises(InvalidInput, match="names no SPIFFE ID"):
        Upstream("cart", Address("127.0.0.1", 1), Address("h", 2), ())
    with pytest.raises(InvalidInput, match="same address"):
        plan(upstreams=[UPSTREAM, Upstream("other", UPSTREAM.listen, Address("h", 2), IDS)])
    with pytest.raises(InvalidInput, match="longer than no time"):
        plan(drain_seconds=0)
