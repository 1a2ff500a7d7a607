"""A real Envoy asks the ext_authz door: what it lets through, and what it does when the door is slow or gone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from citadel.sds.bootstrap import Address, Inbound, Plan, Protocol, Upstream, bootstrap
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.envoys import Envoy, Mesh, mesh, wait_for
from tests.support.raw_http import RawClient
from tests.support.tokens import key_set, public_jwk, token

pytestmark = pytest.mark.envoy

WEB, OTHER, CART = (f"/ns/shop/sa/{name}" for name in ("web", "other", "cart"))
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules:
  - from: [{source: {principals: [example.org/ns/shop/sa/web]}}]
    to: [{operation: {methods: [GET], paths: ["/cart/*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-tests, namespace: shop}
spec: {action: DENY, rules: [{when: [{key: "request.headers[x-mode]", values: [test]}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-mallory, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {requestPrincipals: ["https://issuer.example/mallory"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec: {action: CUSTOM, provider: {name: somebody}, rules: [{to: [{operation: {paths: ["/cart/ask/*"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: users, namespace: shop}
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: http://localhost:PORT/keys
    fromHeaders: [{name: authorization, prefix: "Bearer "}]
"""
#: What stands behind the door is told by the filter's metadata in the access log.
_LOG = "%REQ(:PATH)% " + " ".join(
    f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{key})%" for key in ("policy", "reason", "version", "id")
)


SETTINGS = f"""
[authorization]
policies = "../policies"
[authorization.http]
socket = "../authz.sock"
xfcc_from = ["spiffe://example.org{CART}"]
[authorization.tcp]
address = "127.0.0.1:FREE"
[authorization.keys]
plain_http_hosts = ["localhost"]
refused_networks = []
[[authorization.providers]]
name = "somebody"
protocol = "http"
host = "127.0.0.1"
port = PORT
path_prefix = "/check"
"""
TD = TrustDomain("example.org")

_CONNECTION = (
    "source=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%;destination=%DOWNSTREAM_LOCAL_ADDRESS%"
    ";sni=%REQUESTED_SERVER_NAME%"
)


class Somebody:
    """An issuer's keys at `/keys`; below `/check` a provider, which allows what ends in `yes`."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/keys":
                    self._say(200, key_set(public_jwk("ES256")).encode())
                else:
                    if self.path.endswith("slow"):
                        time.sleep(1.0)  # it is waited for 0.6 s
                    if self.path.endswith("killed"):
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    self._say(200 if self.path.endswith("yes") else 418, b"")

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.free: int = probe.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def end(self) -> None:
        """May be called again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Shop:
    """Cart, which asks the door, and two that call it: web, and other."""

    def __init__(self, world: Mesh, somebody: Somebody) -> None:
        self.world = world
        self.somebody = somebody
        self.text = POLICIES.replace("PORT", str(somebody.port))
        self.policies = world.folder / "policies" / "shop.yaml"
        folder = world.folder
        plan = {"trust_domain": TrustDomain.parse("example.org"), "socket": os.fspath(world.up.workload_socket)}
        mtls = Address.unix(os.fspath(folder / "cart.mtls"))
        inbound = Inbound(mtls, Address.unix(os.fspath(folder / "app.sock")), authorize_seconds=1.0)
        document = bootstrap(Plan(node_id="cart", inbound=inbound, **plan))  # type: ignore[arg-type]
        self.log = folder / "access.log"
        _logged(document, self.log)
        self.cart = Envoy(folder, "cart", document)
        world.up.register(CART, self.cart.selector, "--label", "app=cart")
        pinned = (SpiffeId.parse(f"spiffe://example.org{CART}"),)
        self.envoys = [
            self.cart,
            self._another("http", lambda document: _over_http(document, folder / "authz.sock")),
            self._another("tcp", lambda document: _over_tcp(document, somebody.free)),
        ]
        self.clients: dict[str, RawClient] = {}
        for name, path in (("web", WEB), ("other", OTHER)):
            listen = folder / f"{name}.sock"
            upstream = Upstream("cart", Address.unix(os.fspath(listen)), mtls, pinned, Protocol.HTTP1)
            ways = [upstream]
            for way in ("http", "tcp"):
                client = folder / f"{name}-{way}.sock"
                to = Address.unix(os.fspath(folder / f"{way}.mtls"))
                ways.append(Upstream(way, Address.unix(os.fspath(client)), to, pinned, Protocol.HTTP1))
                self.clients[f"{name} over {way.upper()}"] = RawClient(client)
            envoy = Envoy(folder, name, _raw(bootstrap(Plan(node_id=name, upstreams=ways, **plan))))  # type: ignore[arg-type]
            world.up.register(path, envoy.selector)
            self.envoys.append(envoy)
            self.clients[name] = RawClient(listen)
        for envoy in self.envoys:
            envoy.start()
        for envoy in self.envoys:
            wait_for(f"Envoy {envoy.name}", envoy.ready)

    def _another(self, name: str, change: Callable[[dict[str, Any]], None]) -> Envoy:
        """Another proxy that is registered as cart, and asks in another way."""
        folder = self.world.folder
        mtls = Address.unix(os.fspath(folder / f"{name}.mtls"))
        inbound = Inbound(mtls, Address.unix(os.fspath(folder / "app.sock")), authorize_seconds=1.0)
        socket = os.fspath(self.world.up.workload_socket)
        document = bootstrap(Plan(node_id=name, trust_domain=TD, socket=socket, inbound=inbound))
        change(document)
        envoy = Envoy(folder, name, document)
        self.world.up.register(CART, envoy.selector, "--label", "app=cart")
        return envoy

    def end(self) -> None:
        for client in self.clients.values():
            client.close()
        for envoy in self.envoys:
            envoy.end()

    def asks(self, who: str, path: bytes, *lines: bytes) -> int:
        return self.clients[who].get(path, *lines)[0]


def _filter(document: dict[str, Any]) -> dict[str, Any]:
    (listener,) = document["static_resources"]["listeners"]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    (config,) = (one["typed_config"] for one in filters if one["name"] == "envoy.filters.http.ext_authz")
    found: dict[str, Any] = config
    return found


def _over_tcp(document: dict[str, Any], port: int) -> None:
    """With the cluster of docs/authorization-doors.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "authorization-doors.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (cluster,) = (one for one in blocks if one.startswith("name: citadel_authz"))
    here = cluster.replace("citadel.internal", "127.0.0.1").replace("8477", str(port))
    document["static_resources"]["clusters"].append(yaml.safe_load(here))
    _filter(document)["grpc_service"]["envoy_grpc"]["cluster_name"] = "citadel_authz"


def _over_http(document: dict[str, Any], socket: Path) -> None:
    """As docs/authorization-doors.md says."""
    config = _filter(document)
    del config["grpc_service"]
    config["allowed_headers"] = {"patterns": [{"safe_regex": {"regex": ".*"}}]}
    config["http_service"] = {
        "server_uri": {"uri": "http://citadel", "cluster": "citadel_authz", "timeout": "1s"},
        "authorization_request": {
            "headers_to_add": [
                {"key": "x-citadel-connection", "value": _CONNECTION},
            ]
        },
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": os.fspath(socket)}}}}
    assignment = {"cluster_name": "citadel_authz", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster = {"name": "citadel_authz", "type": "STATIC", "load_assignment": assignment}
    document["static_resources"]["clusters"].append(cluster)


def _raw(document: dict[str, object]) -> dict[str, object]:
    """The client's Envoy leaves paths alone and does not try again, so that the other one gets them as they are."""
    text = json.dumps(document)
    for ours, raw in (
        ('"normalize_path": true', '"normalize_path": false'),
        ('"merge_slashes": true', '"merge_slashes": false'),
        ('"UNESCAPE_AND_FORWARD"', '"KEEP_UNCHANGED"'),
    ):
        assert ours in text
        text = text.replace(ours, raw)
    found: dict[str, object] = json.loads(text)
    return found


def _logged(document: dict[str, object], path: Path) -> None:
    (listener,) = document["static_resources"]["listeners"]  # type: ignore[index]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [
        {
            "name": "file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": os.fspath(path),
                "log_format": {"text_format_source": {"inline_string": _LOG + "\n"}},
            },
        }
    ]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    somebody = Somebody()
    try:
        with mesh(SETTINGS.replace("PORT", str(somebody.port)).replace("FREE", str(somebody.free))) as world:
            (world.folder / "policies").mkdir()
            (world.folder / "policies" / "shop.yaml").write_text(POLICIES.replace("PORT", str(somebody.port)))
            found = Shop(world, somebody)
            try:
                wait_for("policies", lambda: world.up.json("status")["policies"]["version"])
                yield found
            finally:
                found.end()
    finally:
        somebody.end()


@pytest.mark.parametrize(
    ("who", "path", "lines", "status"),
    [
        ("web", b"/cart/7", (), 200),
        ("web", b"/cart/7?a=/../admin", (), 200),
        ("other", b"/cart/7", (), 403),
        ("web", b"/admin", (), 403),
        ("web", b"/cart/../admin", (), 403),
        ("web", b"/cart/%2e%2e/admin", (), 403),
        ("web", b"/cart%2f..%2fadmin", (), 403),
        ("web", b"//cart/7", (), 200),
        ("web", b"/c%61rt/7", (), 200),
        ("web", b"/cart/7", (b"x-mode: a", b"x-mode: test"), 403),
        ("web", b"/cart/7", (b"x-mode: a,test",), 200),
    ],
)
@pytest.mark.parametrize("over", ["", " over HTTP", " over TCP"])
def test_envoy_lets_through_what_the_policies_allow(
    shop: Shop, who: str, path: bytes, lines: tuple[bytes, ...], status: int, over: str
) -> None:
    if over == " over HTTP" and lines == (b"x-mode: a,test",):
        status = 403  # Envoy joins headers there: these may have been two
    assert shop.asks(who + over, path, *lines) == status


def test_another_method_is_denied(shop: Shop) -> None:
    assert shop.clients["web"].ask(b"POST", b"/cart/7", b"content-length: 0")[0] == 403


def test_the_access_log_names_the_policy_that_denied(shop: Shop) -> None:
    assert shop.asks("web", b"/cart/named", b"x-mode: test") == 403
    wait_for("the access log", lambda: "/cart/named shop/no-tests denied-by-policy" in shop.log.read_text(), 20)


def test_the_id_in_the_access_log_tells_which_policy_denied_and_why(shop: Shop) -> None:
    assert shop.asks("web", b"/cart/why?access_token=hunter2", b"x-mode: test", b"cookie: hunter2") == 403
    wait_for("the access log", lambda: "/cart/why" in shop.log.read_text(), 20)
    log_id = next(line for line in shop.log.read_text().splitlines() if "/cart/why" in line).split()[-1]

    def told() -> str:  # it is written beside the decision, a moment later
        ended = shop.world.up.run("policy", "explain", "--log-id", log_id, check=False)
        return ended.stdout if ended.returncode == 0 else ""

    explained = wait_for("the decision log", told)
    assert "deny (denied-by-policy): DENY shop/no-tests, rules[0]; GET /cart/why of shop (app=cart) by" in explained
    assert "note:" not in explained
    logged = (shop.world.up.home / "decisions" / "decisions.jsonl").read_text()
    assert f'"id":"{log_id}"' in logged
    assert "hunter2" not in logged + shop.world.up.log.read_text()


@pytest.mark.parametrize("over", ["", " over HTTP"])
def test_tokens_are_verified_by_keys_that_were_fetched(shop: Shop, over: str) -> None:
    def asked(**more: Any) -> int:
        line = f"authorization: Bearer {token(**{'exp': time.time() + 300, **more})}"
        return shop.asks(f"web{over}", b"/cart/7", line.encode())

    assert asked(sub="alice") == 200
    assert asked(sub="mallory") == 403
    assert asked(sub="alice", exp=1) == asked(sub="alice", which=1, iss="https://other.example") == 401


def test_every_door_says_by_which_version_it_decided(shop: Shop) -> None:
    """The others are in test_authorization_apis."""
    version = shop.world.up.json("status")["policies"]["version"]
    status, headers = shop.clients["web over HTTP"].get(b"/admin")
    assert (status, headers[b"citadel-policy-version"]) == (403, version.encode())
    assert shop.asks("web", b"/cart/version", b"x-mode: test") == 403
    line = f"/cart/version shop/no-tests denied-by-policy {version} "
    wait_for("the access log", lambda: line in shop.log.read_text(), 20)


def test_the_provider_of_a_custom_policy_is_asked_and_when_it_is_gone_nobody_is_let_in(shop: Shop) -> None:
    for over in ("", " over HTTP"):
        assert shop.asks(f"web{over}", b"/cart/ask/yes") == 200
        assert shop.asks(f"web{over}", b"/cart/ask/no") == 418
        assert shop.asks(f"other{over}", b"/cart/ask/yes") == 403
    for path in (b"/cart/ask/slow", b"/cart/ask/killed"):  # while it is asked
        assert [shop.asks(f"web{over}", path) for over in ("", " over TCP", " over HTTP")] == [503, 503, 403]
    shop.somebody.end()
    assert shop.asks("web", b"/cart/ask/yes") == 503
    assert shop.asks("web over HTTP", b"/cart/ask/yes") == 403  # a denial over HTTP is never a 5xx
    assert shop.asks("web", b"/cart/7") == 200


def test_a_changed_policy_is_in_force_without_a_restart(shop: Shop) -> None:
    shop.policies.write_text(shop.text.replace("/cart/*", "/basket/*"))
    try:
        wait_for("the new policy", lambda: shop.asks("web", b"/basket/7") == 200)
        assert shop.asks("web", b"/cart/7") == 403
    finally:
        shop.policies.write_text(shop.text)
        wait_for("the old policy", lambda: shop.asks("web", b"/cart/7") == 200)


def test_an_emptied_folder_opens_nothing_until_it_is_confirmed(shop: Shop) -> None:
    up = shop.world.up
    shop.policies.unlink()
    try:
        held = wait_for("the doubt", lambda: up.json("status")["policies"]["held"])
        assert shop.asks("other", b"/cart/7") == 403
        assert held["version"] in up.run("policy", "status").stdout
        up.run("policy", "confirm", held["version"], "--yes")
        (record,) = [one for one in up.json("audit", "list") if one["action"] == "policy.confirm"]
        assert (record["subject"], record["actor"]) == (held["version"], f"uid:{os.geteuid()}")
        assert shop.asks("other", b"/cart/7") == 200
    finally:
        shop.policies.write_text(shop.text)
        wait_for("the policies", lambda: shop.asks("other", b"/cart/7") == 403)


def test_a_slow_door_and_a_dead_one_are_503_and_it_comes_back(shop: Shop) -> None:
    up = shop.world.up
    up.process.send_signal(signal.SIGSTOP)
    try:
        assert shop.asks("web", b"/cart/7") == 503
        assert shop.asks("web over HTTP", b"/cart/7") == shop.asks("web over TCP", b"/cart/7") == 503
    finally:
        up.process.send_signal(signal.SIGCONT)
    wait_for("the door", lambda: shop.asks("web", b"/cart/7") == 200)
    up.end(signal.SIGKILL)
    try:
        assert shop.asks("web", b"/cart/7") == 503
        assert shop.asks("web over HTTP", b"/cart/7") == shop.asks("web over TCP", b"/cart/7") == 503
        shop.policies.write_text("no: policy")
    finally:
        up.start()
    wait_for("the door, by the last good set", lambda: shop.asks("web", b"/cart/7") == 200)
    for who in ("web over HTTP", "web over TCP"):
        wait_for("the other doors, too", lambda who=who: shop.asks(who, b"/cart/7") == 200)  # type: ignore[misc]
    assert shop.asks("other", b"/cart/7") == shop.asks("other over HTTP", b"/cart/7") == 403
    wait_for("the mistake", lambda: "shop.yaml" in up.json("status")["policies"]["fault"])
    shop.policies.write_text(shop.text)
    wait_for("no mistake", lambda: not up.json("status")["policies"]["fault"])
