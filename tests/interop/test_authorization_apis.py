"""A running Citadel is asked by applications: AuthZEN on its socket and by mTLS, and the client that they import."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citadel.api.authorization.messages import message_of
from citadel.api.proto.citadel.v1 import admin_pb2, admin_pb2_grpc, authorization_pb2, authorization_pb2_grpc
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.client import AuthorizationClient, HttpRequest, Request
from citadel.spiffe import SpiffeId
from tests.support.certificates import Ca
from tests.support.envoys import wait_for
from tests.support.tokens import ISSUER, key_set, public_jwk, token
from tests.support.up import Up, me, running

PEP = "spiffe://example.org/ns/edge/sa/gateway"
CART = "/ns/shop/sa/cart"
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules:
  - from: [{source: {principals: [example.org/ns/shop/sa/web]}}]
    to: [{operation: {methods: [GET], paths: ["/cart/*"]}}]
  - from: [{source: {requestPrincipals: ["user/*"]}}]
    when: [{key: "request.auth.claims[tier]", values: [gold]}]
"""
ENTITIES = "entities: [{type: user, id: ann, properties: {tier: gold}}, {type: user, id: ben}]\n"


@dataclass
class Shop:
    up: Up
    folder: Path
    url: str
    metrics: str
    ca: bytes

    def client(self) -> httpx.Client:
        """On the socket."""
        transport = httpx.HTTPTransport(uds=str(self.folder / "authzen.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost")

    def version(self) -> str:
        """Of the policies in force, as an operator sees it."""
        with grpc.insecure_channel(f"unix:{self.up.admin_socket}") as channel:
            status = admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=20)
        return str(status.policies.version)


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def minted(up: Up, uri: str, folder: Path) -> tuple[Path, Path]:
    """A certificate of Citadel's with its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    der = csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    with grpc.insecure_channel(f"unix:{up.admin_socket}") as channel:
        answer = svid_pb2_grpc.SVIDStub(channel).MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=der), timeout=20)
    chain = [x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in answer.svid.cert_chain]
    files = folder / f"{uri.rpartition('/')[2]}.crt", folder / f"{uri.rpartition('/')[2]}.key"
    files[0].write_bytes(b"".join(chain))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@contextmanager
def issuer(certificate: Path, key: Path) -> Iterator[str]:
    """Where an issuer's keys are."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = key_set(public_jwk("ES256")).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/keys"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("s")
    (folder / "policies.yaml").write_text(POLICIES)
    (folder / "entities.yaml").write_text(ENTITIES)
    ca = Ca("ours")
    certificate, key = ca.issue(folder / "tls")
    port = free_port()
    trusted = folder / "ca.pem"
    trusted.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    with issuer(certificate, key) as keys:
        settings = f"""
[authorization]
policies = "{folder}/policies.yaml"
[authorization.keys]
refused_networks = []
[authorization.authzen]
socket = "{folder}/authzen.sock"
address = "127.0.0.1:{port}"
tls_cert = "{certificate}"
tls_key = "{key}"
allow = ["uid:{os.geteuid()}", "{PEP}", "sub:gateway"]
bearer_issuer = "{ISSUER}"
bearer_audience = "https://pdp.example"
bearer_jwks_url = "{keys}"
claims_from = ["uid:{os.geteuid()}"]
workload = "spiffe://example.org{CART}"
entities = "{folder}/entities.yaml"
"""
        metrics = f"127.0.0.1:{free_port()}"
        env = {"CITADEL_HTTP__ADDRESS": metrics, "SSL_CERT_FILE": str(trusted)}
        with running(folder / "d", settings, env) as up:
            up.register(CART, me(), "--label", "app=cart")
            found = Shop(up, folder, f"https://localhost:{port}", f"http://{metrics}/metrics", ca.der)
            wait_for("policies", found.version)
            yield found


def question(subject: str, action: str = "GET", resource: str = "cart/7", **claims: str) -> dict[str, object]:
    kind, name = resource.split("/")
    who = {"type": "user", "id": subject, "properties": claims}
    return {"subject": who, "action": {"name": action}, "resource": {"type": kind, "id": name}}


@pytest.mark.parametrize(
    ("asked", "decision"),
    [
        (question("spiffe://example.org/ns/shop/sa/web"), True),
        (question("spiffe://example.org/ns/shop/sa/web", "POST"), False),
        (question("spiffe://example.org/ns/shop/sa/web", resource="admin/7"), False),
        (question("ann"), True),
        (question("ben"), False),
        (question("ben", tier="gold"), True),
    ],
)
def test_authzen_decides_by_the_policies_of_a_registered_workload(
    shop: Shop, asked: dict[str, object], decision: bool
) -> None:
    with shop.client() as client:
        answer = client.post("/access/v1/evaluation", json=asked)
        assert (answer.status_code, answer.json()) == (200, {"decision": decision})
        assert answer.headers["citadel-policy-version"] == shop.version()


def test_authzen_by_mtls_with_certificates_that_citadel_issued(shop: Shop) -> None:
    def ask(uri: str, asked: dict[str, object]) -> httpx.Response:
        context = ssl.create_default_context(cadata=shop.ca)
        context.load_cert_chain(*minted(shop.up, uri, shop.folder))
        with httpx.Client(verify=context, base_url=shop.url) as client:
            return client.post("/access/v1/evaluation", json=asked)

    assert ask(PEP, question("ann")).json() == {"decision": True}
    assert ask(PEP, question("ben", tier="gold")).json() == {"decision": False}  # it may state no claims
    refused = ask("spiffe://example.org/ns/edge/sa/other", question("ann"))
    assert refused.status_code == 403
    assert "sa/other may not ask here" in refused.json()


def test_authzen_by_access_tokens_of_an_issuer(shop: Shop) -> None:
    def ask(**claims: object) -> httpx.Response:
        told: dict[str, Any] = {"sub": "gateway", "aud": "https://pdp.example", "exp": time.time() + 300, **claims}
        text = token(**told)
        headers = {"Authorization": f"Bearer {text}"}
        with httpx.Client(verify=ssl.create_default_context(cadata=shop.ca), base_url=shop.url) as client:
            return client.post("/access/v1/evaluation", json=question("ann"), headers=headers)

    assert ask().json() == {"decision": True}
    assert ask(sub="other").status_code == 403
    late = ask(exp=time.time() - 300)
    assert (late.status_code, late.headers["www-authenticate"]) == (401, f'Bearer realm="{ISSUER}"')


def test_search_finds_who_may(shop: Shop) -> None:
    asked = question("x") | {"subject": {"type": "user"}}
    with shop.client() as client:
        assert client.post("/access/v1/search/subject", json=asked).json() == {
            "results": [{"type": "user", "id": "ann"}]
        }


async def test_every_door_says_by_which_version_it_decides_and_says_so_of_the_next_one(shop: Shop) -> None:
    """Those of Envoy's are in test_ext_authz."""

    async def told() -> set[str]:
        with shop.client() as client:
            authzen = client.post("/access/v1/evaluation", json=question("ann")).headers["citadel-policy-version"]
        answer = await citadel.check(Request(8080, http=HttpRequest("GET", "/")))
        live = shop.up.run("policy", "check", "--workload", f"spiffe://example.org{CART}").stdout
        gauge = re.findall(
            r'^citadel_policy_set_documents\{version="(\w+)"\} 1\.0$', httpx.get(shop.metrics).text, re.M
        )
        return {authzen, answer.version, json.loads(live)["version"], *gauge, shop.version()}

    async with (
        AuthorizationClient(shop.up.workload_socket, timeout=timedelta(seconds=20)) as citadel,
        asyncio.timeout(60),
        aclosing(citadel.versions()) as versions,
    ):
        first = await anext(versions)
        assert await told() == {first}
        (shop.folder / "policies.yaml").write_text(POLICIES.replace("GET", "PUT"))
        second = await anext(versions)
        assert await told() == {second} != {first}
        (shop.folder / "policies.yaml").write_text(POLICIES)
        assert await anext(versions) == first


async def test_an_application_asks_by_the_client(shop: Shop) -> None:
    web = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
    async with AuthorizationClient(shop.up.workload_socket, timeout=timedelta(seconds=20)) as citadel:
        answer = await citadel.check(Request(8080, web, http=HttpRequest("GET", "/cart/7?now")))
        assert (answer.allowed, answer.policy, answer.version) == (True, "shop/readers", shop.version())
        assert not await citadel.check(Request(8080, web, http=HttpRequest("GET", "/admin")))
        assert await anext(aiter(citadel.versions())) == shop.version()


def test_an_operator_has_a_request_explained(shop: Shop) -> None:
    with grpc.insecure_channel(f"unix:{shop.up.admin_socket}") as channel:
        asked = authorization_pb2.AuthorizationQuestion(
            request=message_of(Request(8080, http=HttpRequest("GET", "/cart/7"))),
            workload=authorization_pb2.AskedWorkload(spiffe_id=f"spiffe://example.org{CART}"),
        )
        found = authorization_pb2_grpc.AuthorizationStub(channel).Explain(asked, timeout=20)
    assert found.answer.reason == "no-allow-matched"
    assert "principals wants one of" in found.text
    told = shop.up.run("policy", "explain", "--workload", f"spiffe://example.org{CART}", "--path", "/cart/7").stdout
    assert told.startswith(f"policies in force: {shop.version()}; decision ")
    assert "principals wants one of" in told
