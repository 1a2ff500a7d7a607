"""Direct peers on a socket of a real Envoy that serves IPv4 and IPv6: an IPv4 peer is one, whatever the socket is."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from citadel.authz import HttpRequest, Request, decide
from tests.support import authz_cases
from tests.support.envoy_rbac import MESH, Case, Enforcer, read_answer


def has_ipv6() -> bool:
    """Whether this machine has it, not only Python."""
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy"),
    pytest.mark.skipif(not has_ipv6(), reason="needs IPv6"),
]

NETWORKS = ["127.0.0.0/8", "0.0.0.0/0", "::/0", "::1", "::ffff:127.0.0.0/104"]


def case(network: str) -> Case:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "a"},
        "spec": {"action": "DENY", "rules": [{"from": [{"source": {"ipBlocks": [network]}}]}]},
    }
    return Case(network, [document], MESH, [])


class DualStack(Enforcer):
    """Its listeners take IPv6 and IPv4, and no PROXY protocol."""

    def _listener(self, name: str, filters: list[dict[str, Any]]) -> dict[str, Any]:
        made = super()._listener(name, filters)
        made["address"]["socket_address"] |= {"address": "::", "ipv4_compat": True}
        made["listener_filters"] = made["listener_filters"][1:]
        return made


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcer]:
    made = DualStack(tmp_path_factory.mktemp("e"), [case(network) for network in NETWORKS])
    made.start()
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("to", "peer"), [("127.0.0.1", "::ffff:127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")]
)
def test_a_direct_peer_is_in_the_same_networks_for_both(enforcer: Enforcer, network: str, to: str, peer: str) -> None:
    with socket.create_connection((to, enforcer.ports[network]), 10) as opened:
        opened.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        allowed = read_answer(opened).status == 200
    request = Request(80, source_ip=ip_address(peer), http=HttpRequest("GET", "/", "a"))
    workload = authz_cases.to_workload(case(network).workload)
    assert decide(enforcer.sets[network], workload, request).allowed == allowed
