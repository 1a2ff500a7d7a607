"""Real Envoys under load while every certificate is renewed: no request and no handshake fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from citadel.sds.bootstrap import Variant
from tests.support.envoys import CHURN, HTTP2, KEEP, Mesh, mesh
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
        print(name, asked, handshakes)
        assert min(asked.values()) > 100
        assert handshakes[CHURN] >= asked[CHURN]
        assert RENEWALS <= handshakes[KEEP] < asked[KEEP]
        assert pair.client.total(".upstream_cx_http2_total", f"cluster.{HTTP2}.") == handshakes[HTTP2] >= RENEWALS


def test_failures_would_have_been_seen_on_both_sides(one_mesh: Mesh) -> None:
    pair = one_mesh.pair("wrong", ways=[CHURN], expected="/somebody/else")
    with Load(pair.listeners, per_second=20) as load:
        end = time.monotonic() + 20
        while load.tallies[CHURN].failed < 10 and time.monotonic() < end:
            time.sleep(0.05)
    assert load.tallies[CHURN].ok == 0
    assert load.tallies[CHURN].failed >= 10
    client, server = pair.client.failures(), pair.server.failures()
    assert client["cluster.churn.ssl.fail_verify_san"] >= 10
    print(client, server)
    assert client["cluster.churn.upstream_cx_connect_fail"] >= 10
    assert sum(value for name, value in server.items() if name.endswith(".ssl.connection_error")) >= 10
