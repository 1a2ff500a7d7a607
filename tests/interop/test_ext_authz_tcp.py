"""ext_authz over TCP: a client proves who it is by mTLS, and is asked about as it is registered."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from envoy.service.auth.v3 import external_auth_pb2

from tests.support.envoy_rbac import Authority
from tests.support.envoys import wait_for
from tests.support.up import QUICK, Up, Workload, me

CHECK = "/envoy.service.auth.v3.Authorization/Check"
CART, OTHER = "spiffe://example.org/ns/shop/sa/cart", "spiffe://example.org/ns/shop/sa/other"
WEB = "spiffe://example.org/ns/shop/sa/web"
NAME = "authz.example.org"
MOST = 16
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{from: [{source: {principals: [example.org/ns/shop/sa/web]}}]}]
"""


class Client:
    """Somebody with a certificate, or without one."""

    def __init__(self, key: bytes | None, chain: bytes | None, roots: bytes) -> None:
        self.key, self.chain, self.roots = key, chain, roots

    def channel(self, port: int) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(self.roots, self.key, self.chain)
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.enable_http_proxy", 0))
        return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)

    def ask(self, port: int, principal: str = WEB, **extensions: str) -> Any:
        with self.channel(port) as channel:
            return asked(channel, principal, extensions)

    def reason(self, port: int, principal: str = WEB, **extensions: str) -> str:
        return str(self.ask(port, principal, **extensions).dynamic_metadata["reason"])


def reason(channel: grpc.Channel) -> str:
    return str(asked(channel, WEB, {}).dynamic_metadata["reason"])


def asked(channel: grpc.Channel, principal: str, extensions: Mapping[str, str]) -> Any:
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    attributes.source.principal = principal
    attributes.destination.address.socket_address.port_value = 80
    attributes.request.http.method, attributes.request.http.path = "GET", "/"
    attributes.context_extensions.update(extensions)
    call = channel.unary_unary(
        CHECK, external_auth_pb2.CheckRequest.SerializeToString, external_auth_pb2.CheckResponse.FromString
    )
    return call(request, timeout=20)


class World:
    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        settings = f"""
[authorization]
policies = "{folder}/policies.yaml"
[authorization.tcp]
address = "127.0.0.1:{port}"
dns_names = ["{NAME}"]
quota_connections_per_address = {MOST}
"""
        (folder / "policies.yaml").write_text(POLICIES)
        self.up = Up(folder / "d", settings + QUICK.replace("[svid]", '[svid]\ndefault_ttl = "12s"'))
        self.up.start()

    def client(self, path: str) -> Client:
        """With the SVID of an entry."""
        with Workload(self.up.workload_socket, f"spiffe://example.org{path}", "ROOTCA") as workload:
            found: dict[str, Any] = {}
            while len(found) < 2:
                found.update(workload.take())
        own = found[f"spiffe://example.org{path}"].tls_certificate
        roots = found["ROOTCA"].validation_context.trusted_ca.inline_bytes
        return Client(own.private_key.inline_bytes, own.certificate_chain.inline_bytes, roots)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = World(tmp_path_factory.mktemp("w"), port)
    try:
        made.up.register("/ns/shop/sa/cart", me(), "--label", "app=cart")
        made.up.register("/ns/shop/sa/other", me(), "--label", "app=other")
        yield made
    finally:
        made.up.end()


def presented(port: int) -> x509.Certificate:
    """The server's certificate, which it shows before it looks at ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as wrapped:
        der = wrapped.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_policies_are_those_of_the_caller_s_registration(world: World) -> None:
    wait_for("policies", lambda: "policies are in force" in world.up.log.read_text())
    cart, other = world.client("/ns/shop/sa/cart"), world.client("/ns/shop/sa/other")
    assert cart.reason(world.port) == "allowed-by-policy"
    assert cart.reason(world.port, OTHER) == "no-allow-matched"
    assert other.reason(world.port, OTHER) == "no-allow-policy"
    assert cart.reason(world.port, **{"citadel/workload": OTHER}) == "unknown-workload"


def test_who_cannot_prove_who_he_is_gets_no_answer(world: World, tmp_path: Path) -> None:
    cart = world.client("/ns/shop/sa/cart")
    certificate, key = Authority(tmp_path).files("stranger", CART)  # the right name, by somebody else's CA
    strangers = [
        Client(key.read_bytes(), certificate.read_bytes(), cart.roots),
        Client(None, None, cart.roots),
    ]
    for stranger in strangers:
        with pytest.raises(grpc.RpcError) as refused:
            stranger.ask(world.port)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with socket.create_connection(("127.0.0.1", world.port), 10) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert plain.recv(1) == b""


def test_an_entry_that_is_gone_opens_nothing_on_a_connection_that_stays(world: World) -> None:
    entry = world.up.register("/ns/shop/sa/brief", me(), "--label", "app=brief")
    with world.client("/ns/shop/sa/brief").channel(world.port) as channel:
        assert reason(channel) == "no-allow-policy"
        world.up.run("entry", "delete", entry, "--yes")
        wait_for("the denial", lambda: reason(channel) == "unknown-workload")


def test_the_server_s_certificate_is_renewed_without_a_restart(world: World) -> None:
    first = presented(world.port)
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/spire/server"]
    wait_for("another certificate", lambda: presented(world.port).serial_number != first.serial_number)
    assert world.client("/ns/shop/sa/cart").reason(world.port) == "allowed-by-policy"


def test_one_address_has_so_many_connections_and_no_more(world: World) -> None:
    held = [socket.create_connection(("127.0.0.1", world.port), 10) for _ in range(MOST)]
    try:
        with socket.create_connection(("127.0.0.1", world.port), 10) as more:
            assert more.recv(1) == b""
    finally:
        for one in held:
            one.close()
    wait_for("room", lambda: answers(world))


def answers(world: World) -> bool:
    try:
        return world.client("/ns/shop/sa/cart").reason(world.port) == "allowed-by-policy"
    except grpc.RpcError:
        return False
