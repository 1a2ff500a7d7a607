"""CUSTOM policies in a real Envoy, over HTTP and TCP: the provider allows, denies, breaks, is slow, or is not there."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from citadel.authz import Answer, ExtensionProvider, HttpRequest, ProviderProtocol, Request, decide
from citadel.authz.decision_point import ProviderReply, Question, Ruling
from citadel.authz.providers import ProviderClients
from tests.support import authz_cases
from tests.support.deciding import deciding
from tests.support.envoy_rbac import MESH, Case, Connection, Enforcer

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

MOODS = {
    "allow": Answer.ALLOW,
    "deny": Answer.DENY,
    "broken": Answer.FAILED,
    "slow": Answer.FAILED,
    "killed": Answer.FAILED,
    "gone": Answer.FAILED,
}
STATUS = {Answer.ALLOW: 200, Answer.DENY: 403, Answer.FAILED: 503}
MATCHED = Connection(False, None, "", "127.0.0.1", "10.0.0.1", "10.0.0.2", 443)
OTHER = Connection(False, None, "", "127.0.0.1", "10.0.0.1", "10.0.0.2", 80)
SLOW = 1.5  # seconds; Envoy waits 0.6


class Providers:
    """One server of gRPC and one of HTTP, of the same mood; how often they were asked."""

    def __init__(self) -> None:
        self.mood = "allow"
        self.asked = 0
        self._grpc = grpc.server(futures.ThreadPoolExecutor(4))
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._check,
                request_deserializer=external_auth_pb2.CheckRequest.FromString,
                response_serializer=external_auth_pb2.CheckResponse.SerializeToString,
            )
        }
        service = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", handlers)
        self._grpc.add_generic_rpc_handlers((service,))
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http_port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def _mood(self) -> str:
        self.asked += 1
        if self.mood == "slow":
            time.sleep(SLOW)
        return self.mood

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        mood = self._mood()
        if mood == "killed":  # while it is asked
            self._grpc.stop(None)
        if mood == "broken":
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        answer = external_auth_pb2.CheckResponse()
        answer.status.code = 7 if mood == "deny" else 0
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mood = self._mood

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if (now := mood()) == "killed":  # while it is asked
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response({"deny": 403, "broken": 500}.get(now, 200))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # Envoy did not wait
                    super().handle()

        return Handler

    def clusters(self) -> list[dict[str, Any]]:
        http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": f"type.googleapis.com/{http2}", "explicit_http_config": {"http2_protocol_options": {}}}
        return [
            {
                **_cluster("ext_authz|grpc|9000|x.example", self.grpc_port),
                "typed_extension_protocol_options": {http2: options},
            },
            _cluster("ext_authz|http|9000|x.example", self._http.server_port),
        ]

    def end(self) -> None:
        """They are not there any more; may be called again."""
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def case(name: str, http: bool, *providers: str, several: bool = False) -> Case:
    """What goes to port 443, or over HTTP to /admin, is the provider's business."""
    operation = {"paths": ["/admin"]} if http else {"ports": ["443"]}
    documents = [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": f"ask-{provider}", "namespace": "a"},
            "spec": {"action": "CUSTOM", "provider": {"name": provider}, "rules": [{"to": [{"operation": operation}]}]},
        }
        for provider in providers
    ]
    mesh = {**MESH, "providers": {"p": "grpc", "q": "http"}, "several_providers": several}
    return Case(name, documents, mesh, [], http)


CASES = [
    *(case(f"{'http' if http else 'tcp'}-{provider}", http, provider) for http in (True, False) for provider in "pqz"),
    *(case(f"{'http' if http else 'tcp'}-contradiction", http, "p", "q") for http in (True, False)),
    *(case(f"{'http' if http else 'tcp'}-both", http, "p", "q", several=True) for http in (True, False)),
]


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    made = Providers()
    yield made
    made.end()


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory: pytest.TempPathFactory, providers: Providers) -> Iterator[Enforcer]:
    made = Enforcer(tmp_path_factory.mktemp("e"), CASES, providers.clusters())
    made.start()
    try:
        yield made
    finally:
        made.end()


class _There:
    """Contract: decision_point.Providers. The mesh's providers are where Envoy's clusters lead to."""

    def __init__(self, providers: Providers, clients: ProviderClients) -> None:
        self._ports = {ProviderProtocol.GRPC: providers.grpc_port, ProviderProtocol.HTTP: providers.http_port}
        self._clients = clients

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
        here = replace(provider, service="127.0.0.1", port=self._ports[provider.protocol])
        return await self._clients.ask(here, request)


async def _by_the_decision_point(providers: Providers, enforcer: Enforcer) -> dict[tuple[str, bool], Ruling]:
    """What the doors answer for each case, matched and not."""
    async with ProviderClients() as clients:
        there = _There(providers, clients)

        async def ruled(one: Case, matched: bool) -> Ruling:
            http = HttpRequest("GET", "/admin" if matched else "/", "a") if one.http else None
            request = (MATCHED if matched else OTHER).request(http, {})
            workload = authz_cases.to_workload(one.workload)
            return await deciding(enforcer.sets[one.name], providers=there).decide(
                Question("test", "envoy", workload, (request,))
            )

        asked = [(one, matched) for one in CASES for matched in (True, False)]
        rulings = await asyncio.gather(*(ruled(*each) for each in asked))
        return {(one.name, matched): ruling for (one, matched), ruling in zip(asked, rulings, strict=True)}


@pytest.mark.parametrize("mood", MOODS)  # after killed and gone nobody comes back
def test_custom_policies_are_enforced_as_the_engine_says(providers: Providers, enforcer: Enforcer, mood: str) -> None:
    providers.mood = mood
    if mood == "gone":
        providers.end()
    answers = dict.fromkeys("pq", MOODS[mood])
    rulings = asyncio.run(_by_the_decision_point(providers, enforcer))
    for one in CASES:
        for matched in (True, False):
            connection = MATCHED if matched else OTHER
            request = HttpRequest("GET", "/admin" if matched else "/", "a") if one.http else None
            decision = decide(
                enforcer.sets[one.name],
                authz_cases.to_workload(one.workload),
                connection.request(request, {}),
                answers,
            )
            ruling = rulings[one.name, matched]
            assert ruling.decision == decision, one.name
            before = providers.asked
            if request is None:
                assert enforcer.tcp_echoed(one.name, connection) == decision.allowed, one.name
            else:
                wire: dict[str, Any] = {
                    "method": "GET",
                    "path": request.path,
                    "authority": "a",
                    "headers": {},
                    "jwt": None,
                }
                (status,) = enforcer.http_status(one.name, connection, [wire])
                expected = STATUS[Answer.FAILED if decision.reason == "provider-failed" else Answer.DENY]
                assert status == ruling.status == (200 if decision.allowed else expected), one.name
            if not matched:
                assert providers.asked == before, "nobody is asked about what no policy matches"
    if mood == "slow":
        time.sleep(SLOW)  # what Envoy did not wait for is answered before the next mood is asked for
