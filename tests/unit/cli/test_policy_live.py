"""`citadel policy check` and `explain` without files: the check service of an admin socket is asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from citadel.api.authorization.askers import Operators
from citadel.api.authorization.service import CheckService
from citadel.api.proto.citadel.v1 import admin_pb2
from citadel.authz import MeshFacts, PolicySet, Workload, load_text
from citadel.authz.decision_point import ProviderReply
from citadel.authz.evaluate import Answer
from citadel.authz.facts import ExtensionProvider, ProviderProtocol
from citadel.authz.policyset import compile_documents
from citadel.authz.request import Request
from citadel.cli import policy_live
from citadel.errors import NotFound
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.cli import CommandLine
from tests.support.deciding import deciding
from tests.support.tokens import ISSUER, key_set, public_jwk

CART = SpiffeId.parse("spiffe://example.org/ns/shop/sa/cart")
WEB = ("--peer", "spiffe://example.org/ns/shop/sa/web")
POLICIES = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  rules:
  - from: [{{source: {{principals: [example.org/ns/shop/sa/web]}}}}]
    to: [{{operation: {{methods: [GET], paths: ["/cart/*"]}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: asked, namespace: shop}}
spec: {{action: CUSTOM, provider: {{name: fraud}}, rules: [{{to: [{{operation: {{paths: ["/cart/buy*"]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: shop}}
spec: {{jwtRules: [{{issuer: "{ISSUER}", jwks: '{key_set(public_jwk("ES256"))}'}}]}}
"""


class _Fraud:
    """Contract: decision_point.Providers. Denies what ends in `no`."""

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
        assert request.http is not None
        return ProviderReply(Answer.DENY if request.http.path.endswith("no") else Answer.ALLOW)


class _Gate:
    def actor(self, _context: Any) -> str:
        return "uid:0"


def _status(version: str) -> Any:
    """Of `citadel.v1.Admin` the one call that is needed."""

    async def status(_request: admin_pb2.GetStatusRequest, _context: Any) -> admin_pb2.Status:
        return admin_pb2.Status(policies=admin_pb2.Policies(version=version, stored_version="v12"))

    handler = grpc.unary_unary_rpc_method_handler(
        status, admin_pb2.GetStatusRequest.FromString, admin_pb2.Status.SerializeToString
    )
    return grpc.method_handlers_generic_handler("citadel.v1.Admin", {"GetStatus": handler})


class Server:
    """An admin socket, in a thread of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        provider = ExtensionProvider("fraud", ProviderProtocol.GRPC, "fraud.shop", 9000)
        facts = MeshFacts(TrustDomain("example.org"), providers=(provider,))
        self.policies: PolicySet | None = compile_documents(load_text(POLICIES), facts)
        self.version = self.policies.version
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()

        async def find(name: SpiffeId) -> Workload:
            if name != CART:
                raise NotFound(f"nobody is registered as {name}")
            return Workload("shop", {"app": "cart"})

        point = deciding(lambda: self.policies, providers=_Fraud())
        who = Operators(_Gate(), find, lambda: frozenset({TrustDomain("example.org")}))  # type: ignore[arg-type]
        server = grpc.aio.server()
        CheckService(point, who).add_to(server)
        server.add_generic_rpc_handlers((_status(self.version),))
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        self._ready.set()
        await self._over.wait()
        await server.stop(None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "s")
    with structlog.testing.capture_logs():  # its log would be between the lines of the command
        made.start()
        try:
            yield made
        finally:
            made.end()


def test_the_answer_is_that_of_the_policies_in_force_and_says_their_version(
    citadel: CommandLine, server: Server
) -> None:
    ended = citadel("policy", "check", "--workload", CART, *WEB, "--path", "/cart/7", "--socket", server.socket)
    answer = ended.json()
    assert (ended.code, answer["outcome"], answer["policy"], answer["rule"]) == (0, "allow", "shop/readers", 0)
    assert (answer["version"], answer["http_status"], bool(answer["log_id"])) == (server.version, 200, True)
    denied = citadel("policy", "check", "-n", "shop", "-l", "app=cart", "--path", "/cart/7", "--socket", server.socket)
    assert (denied.code, denied.json()["reason"], denied.json()["http_status"]) == (0, "no-allow-matched", 403)
    nobody = citadel("policy", "check", "--workload", f"{CART}s", "--socket", server.socket).json()
    assert (nobody["reason"], nobody["detail"]) == ("unknown-workload", f"nobody is registered as {CART}s")
    server.policies = None
    none = citadel("policy", "check", "--workload", CART, "--socket", server.socket).json()
    assert (none["reason"], none["version"]) == ("not-loaded", "")


def test_lines_are_answered_in_order(
    citadel: CommandLine, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_live, "_MOST_QUESTIONS", 2)
    cart = {"workload": {"namespace": "shop", "labels": {"app": "cart"}}, "peer": WEB[1]}
    asked: list[Any] = [
        *({**cart, "id": number, "http": {"path": f"/cart/{number}"}} for number in range(5)),
        {**cart, "id": "no", "http": {"path": "/x"}},
        {"id": "p", "providers": {"fraud": "allow"}},
        "no request",
        {**cart, "id": "last", "http": {"path": "/cart/last"}},
    ]
    (tmp_path / "requests").write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    ended = citadel("policy", "check", "--input", tmp_path / "requests", "--socket", server.socket)
    answers = [json.loads(line) for line in ended.out.splitlines()]
    assert [one.get("id") for one in answers] == [0, 1, 2, 3, 4, "no", None, None, "last"]
    assert [one["outcome"] for one in answers] == ["allow"] * 5 + ["deny"] * 3 + ["allow"]
    assert answers[6]["detail"] == "line 7: providers: a running Citadel asks its providers itself"
    assert (answers[7]["reason"], ended.code) == ("bad-request", 4)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--path", "/cart/7"), "allow (allowed-by-policy): ALLOW shop/readers, rules[0]"),
        (("--path", "/cart/7", "--method", "PUT"), "deny (no-allow-matched)"),
        (("--path", "/cart/buy/yes"), "allow (allowed-by-policy): ALLOW shop/readers, rules[0]"),
        (("--path", "/cart/buy/no"), "deny (denied-by-provider): CUSTOM shop/asked, rules[0]"),
        (("--path", "/cart/7", "--header", "Authorization: Bearer x"), "deny (bad-token)"),
    ],
)
def test_an_explanation_begins_with_what_was_really_decided(
    citadel: CommandLine, server: Server, more: tuple[str, ...], said: str
) -> None:
    ended = citadel("policy", "explain", "--workload", CART, *WEB, *more, "--socket", server.socket)
    first, second, *rest = ended.out.splitlines()
    assert ended.code == 0
    assert first.startswith(f"policies in force: {server.version} (v12); decision ")
    assert second.startswith(said)
    assert any("shop/readers" in line for line in rest)
    arguments = ("--workload", CART, *WEB, *more, "--format", "json", "--socket", server.socket)
    document = citadel("policy", "explain", *arguments).json()
    assert document["stored_version"] == "v12"
    assert document["explanation"]["decision"]["reason"] == document["decision"]["reason"]
    assert f"({document['decision']['reason']})" in second


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--provider", "a=allow"), "--provider"),
        (("--trust-domain", "a.example"), "--trust-domain"),
        (("--mesh", "shop.mesh"), "--mesh"),
        (("--workload", "cart"), "not a SPIFFE ID"),
        (("--workload", CART, "-n", "shop"), "leave out -n and -l"),
        (("--workload", CART, "-l", "a=b"), "leave out -n and -l"),
        (("-f", "policies", "--workload", CART), "leave out -f"),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_options_that_do_not_go_together_are_refused(
    citadel: CommandLine, tmp_path: Path, command: str, given: tuple[str, ...], said: str
) -> None:
    ended = citadel("policy", command, *given, "--socket", tmp_path / "nobody")
    assert (ended.code, ended.out) == (4, "")
    assert said in ended.err


def test_without_files_and_without_a_citadel_there_is_no_answer(citadel: CommandLine, tmp_path: Path) -> None:
    for command in ("check", "explain"):
        ended = citadel("policy", command, "--socket", tmp_path / "nobody")
        assert ended.out == ""
        assert "no Citadel listens at" in ended.err
        assert "or say which files are asked, with -f" in ended.err
