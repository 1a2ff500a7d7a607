"""Real Envoys under load while every certificate is renewed: no request and no handshake fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from citadel.sds.bootstrap import Variant
from tests.support.envoys import CHURN, HTTP2, KEEP, Mesh, mesh, wait_for
from tests.support.load import Load

pytestmark = pytest.mark.envoy
RENEWALS = 5
MOST_SECONDS = 75


@pytest.fixture(scope="module")
def one_mesh() -> Iterator[Mesh]:
    with mesh() as made:
        yield made


def test_five_renewals_under_load_in_every_variant_and_way(one_mesh: Mesh) -> None:
    pairs = {variant.value: one_mesh.pair(variant.value, variant) for variant in Variant}
    envoys = [envoy for pair in pairs.values() for envoy in pair.both]
    listeners = {f"{name}/{way}": path for name, pair in pairs.items() for way, path in pair.listeners.items()}
    end = time.monotonic() + MOST_SECONDS
    with Load(listeners, per_second=15) as load:
        while min(envoy.renewals for envoy in envoys) < RENEWALS and time.monotonic() < end:
            for envoy in envoys:
                envoy.look()
            time.sleep(0.3)
    assert {envoy.name: envoy.renewals for envoy in envoys if envoy.renewals < RENEWALS} == {}
    assert load.failed == {}
    for name, pair in pairs.items():
        assert pair.failures() == {}, name
        asked = {way: load.tallies[f"{name}/{way}"].ok for way in pair.listeners}
        handshakes = {way: pair.client.total(".ssl.handshake", f"cluster.{way}.") for way in asked}
        assert min(asked.values()) > 100
        assert handshakes[CHURN] >= asked[CHURN]
        assert RENEWALS <= handshakes[KEEP] < asked[KEEP]
        assert pair.client.total(".upstream_cx_http2_total", f"cluster.{HTTP2}.") == handshakes[HTTP2] >= RENEWALS


def test_failures_would_have_been_seen_on_both_sides(one_mesh: Mesh) -> None:
    pair = one_mesh.unregistered("wrong", ways=[CHURN], expected="/somebody/else")
    pair.register(one_mesh.up, "1h")
    for envoy in pair.both:
        envoy.start()
    for envoy in pair.both:
        wait_for(envoy.name, envoy.ready)
    with Load(pair.listeners, per_second=20) as load:
        wait_for("failures", lambda: load.tallies[CHURN].failed >= 10)
    assert load.tallies[CHURN].ok == 0
    assert load.failed == {CHURN: {"HTTP 503": load.tallies[CHURN].failed}}
    refused = pair.client.failures()
    assert refused["cluster.churn.ssl.fail_verify_san"] >= 10
    assert refused["cluster.churn.upstream_cx_connect_fail"] >= 10
    assert refused["cluster.churn.upstream_rq_5xx"] >= 10
    assert pair.server.total(".ssl.connection_error") >= 10
    assert any(name.endswith(".ssl.connection_error") for name in pair.server.failures())
