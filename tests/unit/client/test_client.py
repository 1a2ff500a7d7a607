"""citadel.v1.Authorization, asked by the clients that applications import: what they say, and that they fail closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.api.authorization import askers, service, watching
from citadel.api.authorization.askers import AttestedAskers, Operators
from citadel.api.authorization.messages import Believed, message_of, request_of
from citadel.api.authorization.service import CheckService
from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.api.proto.citadel.v1 import authorization_pb2_grpc
from citadel.authz import MeshFacts, PolicySet, load_text
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.doors import Caller, DoorRules, Registered
from citadel.authz.policyset import compile_documents
from citadel.authz.switches import Switches
from citadel.client import AuthorizationClient, BlockingAuthorizationClient, Choice, HttpRequest, Request
from citadel.errors import InvalidInput, PermissionDenied, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.deciding import Observed, deciding
from tests.support.tokens import CLAIMS, ISSUER, key_set, public_jwk, token

TD = TrustDomain("example.org")
CART = Registered(SpiffeId.parse("spiffe://example.org/ns/shop/sa/cart"), {"app": "cart"})
PROXY = Registered(SpiffeId.parse("spiffe://example.org/ns/shop/sa/proxy"), {"app": "cart"})
OTHER = Registered(SpiffeId.parse("spiffe://example.org/ns/other/sa/x"), {})
WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
POLICIES = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  rules:
  - from: [{{source: {{principals: [example.org/ns/shop/sa/web]}}}}]
    to: [{{operation: {{methods: [GET], paths: ["/cart/*"]}}}}]
  - from: [{{source: {{requestPrincipals: ["{ISSUER}/alice"]}}}}]
  - to: [{{operation: {{paths: ["/raw/\\\\xff"]}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: tried, namespace: shop, annotations: {{istio.io/dry-run: "true"}}}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: ["/cart/7"]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: shop}}
spec: {{jwtRules: [{{issuer: "{ISSUER}", jwks: '{key_set(public_jwk("ES256"))}'}}]}}
"""


def get(path: str = "/cart/7", method: str = "GET", peer: SpiffeId | None = WEB, **more: Any) -> Request:
    return Request(8080, peer, http=HttpRequest(method, path, "cart", **more))


class World:
    """A node with one caller, at a socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self.policies: PolicySet | None = compiled(POLICIES)
        self.entries: tuple[Registered, ...] = (CART,)
        self.error: Exception | None = None
        self.observed = Observed()
        self.point: DecisionPoint = deciding(lambda: self.policies, observer=self.observed)
        self.rules = DoorRules(claims_from=frozenset({PROXY.spiffe_id}))

    async def caller(self, _connection: Any) -> Caller:
        if self.error is not None:
            raise self.error
        return Caller("pid 7 uid 1000", self.entries, frozenset({TD}))

    def switch(self, policies: PolicySet) -> None:
        self.policies = policies
        self.point.switches.happened()

    @asynccontextmanager
    async def serving(self, who: askers.Askers | None = None) -> AsyncIterator[None]:
        server = grpc.aio.server()
        CheckService(self.point, who or AttestedAskers(self, self.rules)).add_to(server)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    @asynccontextmanager
    async def client(self, **more: Any) -> AsyncIterator[AuthorizationClient]:
        more.setdefault("timeout", timedelta(seconds=20))
        async with self.serving(), AuthorizationClient(self.socket, **more) as client:
            yield client


def compiled(text: str) -> PolicySet:
    return compile_documents(load_text(text), MeshFacts(TD))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_an_answer_says_who_decided(world: World) -> None:
    async with world.client() as client:
        answer = await client.check(get(), request_id="r-1")
        assert answer
        assert (answer.reason, answer.policy, answer.rule, answer.action) == (
            "allowed-by-policy",
            "shop/readers",
            0,
            "ALLOW",
        )
        assert (answer.http_status, answer.dry_run_outcome) == (200, "deny")
        assert [one.policy for one in answer.dry_run] == ["shop/tried"]
        assert world.policies is not None
        assert answer.version == world.policies.version
        (ruling,) = world.observed
        assert ruling.question is not None
        assert (ruling.id, ruling.door, ruling.question.request_id) == (answer.id, "grpc", "r-1")
        denied = await client.check(get(method="POST"))
        assert not denied
        assert (denied.reason, denied.rule, denied.http_status) == ("no-allow-matched", None, 403)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [(WEB, True), (None, False), (SpiffeId.parse("spiffe://elsewhere.org/ns/shop/sa/web"), False)],
)
async def test_a_peer_counts_if_we_know_its_domain(world: World, peer: SpiffeId | None, allowed: bool) -> None:
    async with world.client() as client:
        assert (await client.check(get(peer=peer))).allowed is allowed


async def test_a_token_is_verified_and_claims_count_from_those_who_may_state_them(world: World) -> None:
    bearing = {"authorization": (f"Bearer {token()}",)}
    async with world.client() as client:
        assert await client.check(get("/x", peer=None, headers=bearing))
        wrong = await client.check(get("/x", peer=None, headers={"authorization": ("Bearer x",)}))
        assert (wrong.reason, wrong.http_status) == ("bad-token", 401)
        stated = get("/x", peer=None, jwt=dict(CLAIMS))
        assert not await client.check(stated)
        world.entries = (PROXY,)
        assert await client.check(stated)


async def test_whose_policies_are_asked_the_caller_does_not_choose(world: World) -> None:
    world.entries = (CART, OTHER)
    cart = Choice(labels={"app": "cart"})
    async with world.client(workload=cart) as client:
        assert await client.check(get())
    async with world.client(workload=Choice(spiffe_id=OTHER.spiffe_id.uri)) as client:
        assert (await client.check(get())).reason == "no-allow-policy"
    async with world.client() as client:  # two, and they differ
        assert (await client.check(get())).reason == "unknown-workload"
    world.entries = (CART,)
    async with world.client(workload=Choice(namespace="other")) as client:
        assert (await client.check(get())).reason == "unknown-workload"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"peer": "web"}, "bad-request"),
        ({"source_ip": "x"}, "bad-request"),
        ({"port": 70_000}, "bad-request"),
        ({"http": pb.HttpAttributes()}, "bad-request"),
        ({"http": pb.HttpAttributes(method="GET", headers=[pb.HttpHeader(name=":path", value=b"/")])}, "bad-request"),
        ({"http": pb.HttpAttributes(method="GET", headers=[pb.HttpHeader(name="a")] * 1001)}, "bad-request"),
        ({"http": pb.HttpAttributes(method="GET", path=b"x")}, "bad-path"),
        ({"http": pb.HttpAttributes(method="GET", path=b"/\0")}, "bad-path"),
    ],
)
async def test_a_question_that_makes_no_sense_is_denied(world: World, change: dict[str, Any], why: str) -> None:
    async with world.serving(), grpc.aio.insecure_channel(f"unix:{world.socket}") as channel:
        stub = authorization_pb2_grpc.AuthorizationStub(channel)
        attributes = pb.AuthorizationAttributes(**change)
        answer = await stub.Check(pb.AuthorizationQuestion(request=attributes))
        assert (answer.allowed, answer.reason) == (False, why)
        odd = pb.AuthorizationQuestion(workload=pb.AskedWorkload(kind="gateway"))
        assert (await stub.Check(odd)).reason == "unknown-workload"
        assert not (await stub.Check(pb.AuthorizationQuestion())).allowed  # nothing at all is said


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionDenied("gone"), "unknown-workload"),
        (Unavailable("not yet"), "not-loaded"),
        (RuntimeError("x"), "no-answer"),
    ],
)
async def test_a_caller_that_is_not_known_is_denied(world: World, error: Exception, reason: str) -> None:
    world.error = error
    async with world.client() as client:
        assert (await client.check(get())).reason == reason
        answers = await client.check_all([get(), get()])
        assert [(one.allowed, one.reason) for one in answers] == [(False, reason)] * 2
        if not isinstance(error, RuntimeError):
            assert not (await client.explain(get())).answer


async def test_many_are_answered_in_order(world: World) -> None:
    async with world.client() as client:
        asked = [get(f"/cart/{n}" if n % 3 else "/x") for n in range(2_500)]
        answers = await client.check_all(asked)
        assert [one.allowed for one in answers] == [n % 3 != 0 for n in range(2_500)]
        huge = [get(headers={"x": ("y" * 150_000,)}) for _ in range(3)]
        assert all(await client.check_all(huge))
        assert await client.check_all([]) == []


async def test_an_explanation_says_what_each_policy_made_of_it(world: World) -> None:
    async with world.client() as client:
        found = await client.explain(get(method="POST"))
        assert not found.answer
        assert 'methods wants one of "GET"; it is "POST"' in found.text
        assert "└── " in found.tree
        assert '"schema": "citadel.dev/explanation/v1"' in found.json
        world.policies = None
        assert (await client.explain(get())).answer.reason == "not-loaded"


async def test_versions_are_told_and_a_restart_is_ridden_out(world: World) -> None:
    first, second = world.policies, compiled(POLICIES.replace("/cart/*", "/*"))
    assert first is not None
    async with AuthorizationClient(world.socket, timeout=timedelta(seconds=20)) as client, asyncio.timeout(30):
        versions = client.versions()
        coming = asyncio.ensure_future(anext(versions))
        async with world.serving():
            assert await coming == first.version
            world.switch(second)
            assert await anext(versions) == second.version
        asked = asyncio.ensure_future(client.check(get()))
        coming = asyncio.ensure_future(anext(versions))
        await asyncio.sleep(0)
        world.switch(first)
        async with world.serving():
            assert await coming == first.version
            assert (await asked).allowed


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_question_that_was_lost_on_the_way_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    lost = iter([True, True])
    answer = CheckService.Check

    async def check(self: CheckService, request: Any, context: Any) -> Any:
        if next(lost, False):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Stream removed")
        return await answer(self, request, context)

    monkeypatch.setattr(CheckService, "Check", check)
    async with world.client() as client:
        if blocking:
            with BlockingAuthorizationClient(world.socket, timeout=timedelta(seconds=20)) as other:
                assert await asyncio.to_thread(other.check, get())
        else:
            assert await client.check(get())
    assert next(lost, None) is None


async def test_everybody_who_waits_is_woken_by_the_switch_and_by_nothing_else() -> None:
    switches, now = Switches(), "a"
    watched = watching.Watching(lambda: now, switches)
    versions = [watched.versions(str(number)) for number in range(100)]
    assert {await anext(one) for one in versions} == {"a"}
    coming = [asyncio.ensure_future(anext(one)) for one in versions]
    await asyncio.sleep(0)
    switches.happened()  # the same again
    await asyncio.sleep(0)
    now = "b"
    await asyncio.sleep(0)
    assert not any(one.done() for one in coming)
    switches.happened()
    async with asyncio.timeout(5):
        assert set(await asyncio.gather(*coming)) == {"b"}
    for one in versions:
        await one.aclose()


async def test_so_many_may_watch_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MOST_EACH", 1)
    async with world.serving(), grpc.aio.insecure_channel(f"unix:{world.socket}") as channel:
        stub = authorization_pb2_grpc.AuthorizationStub(channel)
        kept = stub.WatchVersion(pb.WatchVersionRequest())
        first: Any = await kept.read()
        assert first.version
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.WatchVersion(pb.WatchVersionRequest()).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        kept.cancel()


async def test_without_a_server_all_is_denied(tmp_path: Path) -> None:
    async with AuthorizationClient(tmp_path / "s", timeout=timedelta(milliseconds=50)) as client:
        answer = await client.check(get())
        assert (answer.allowed, answer.reason, answer.http_status) == (False, "no-answer", 503)
        assert answer.detail
        assert not any(await client.check_all([get()]))
        with pytest.raises(Unavailable):
            await client.explain(get())
    with pytest.raises(InvalidInput, match="absolute path"):
        AuthorizationClient("run/workload.sock")


async def test_a_slow_server_is_a_denial(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: Any, **__: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(world.point, "decide", slow)
    async with world.client(timeout=timedelta(milliseconds=50)) as client:
        assert (await client.check(get())).detail.startswith(
            "deadline exceeded: there was no answer in time; Citadel does not run"
        )


async def test_the_blocking_client_says_the_same(world: World) -> None:
    def ask() -> None:
        with BlockingAuthorizationClient(world.socket, timeout=timedelta(seconds=20)) as client:
            assert client.check(get())
            assert not client.check(get(method="POST"))
            assert [one.allowed for one in client.check_all([get(), get("/x")])] == [True, False]
            assert "readers" in client.explain(get()).text
        with BlockingAuthorizationClient("/nowhere/s", timeout=timedelta(milliseconds=50)) as client:
            assert not client.check(get())
            assert not any(client.check_all([get()]))
            with pytest.raises(Unavailable):
                client.explain(get())

    async with world.serving():
        await asyncio.to_thread(ask)


# --- operators


class Door:
    """api.admin.access.Gate, which lets everybody in; or nobody."""

    def __init__(self, open_: bool = True) -> None:
        self._open = open_

    def actor(self, _context: Any) -> str:
        if not self._open:
            raise PermissionDenied("uid 7 may not administer this Citadel")
        return "uid:0"


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (pb.AskedWorkload(namespace="shop", labels={"app": "cart"}), "allowed-by-policy"),
        (pb.AskedWorkload(spiffe_id=CART.spiffe_id.uri), "allowed-by-policy"),
        (pb.AskedWorkload(namespace="shop", kind="gateway", gateway="g"), "no-allow-policy"),
        (pb.AskedWorkload(spiffe_id=OTHER.spiffe_id.uri), "unknown-workload"),
        (pb.AskedWorkload(spiffe_id="cart"), "unknown-workload"),
        (pb.AskedWorkload(spiffe_id=CART.spiffe_id.uri, namespace="shop"), "unknown-workload"),
        (pb.AskedWorkload(namespace="shop", kind="robot"), "unknown-workload"),
        (pb.AskedWorkload(), "unknown-workload"),
    ],
)
async def test_operators_ask_about_any_workload(world: World, workload: pb.AskedWorkload, reason: str) -> None:
    async def find(name: SpiffeId) -> Any:
        if name != CART.spiffe_id:
            raise Unavailable("the store does not answer") if name.path == "/x" else InvalidInput("no such workload")
        return CART.workload("default")

    who = Operators(Door(), find, lambda: frozenset({TD}))  # type: ignore[arg-type]
    async with world.serving(who), grpc.aio.insecure_channel(f"unix:{world.socket}") as channel:
        stub = authorization_pb2_grpc.AuthorizationStub(channel)
        asked = pb.AuthorizationQuestion(request=message_of(get()), workload=workload)
        found = await stub.Explain(asked)
        assert found.answer.reason == reason
        assert world.observed[-1].door == service.EXPLAIN


async def test_a_peer_of_an_alias_is_one_of_ours_and_one_of_an_unknown_domain_is_held_against_it(world: World) -> None:
    world.policies = compile_documents(load_text(POLICIES), MeshFacts(TD, (TrustDomain("old.org"),)))
    async with world.client() as client:
        for domain, allowed in (("example.org", True), ("old.org", True), ("unknown.org", False)):
            peer = SpiffeId.parse(f"spiffe://{domain}/ns/shop/sa/web")
            assert (await client.check(get(peer=peer))).allowed is allowed
            request = world.observed[-1].request
            assert request is not None
            assert request.unknown_peer == (None if allowed else peer)
        with pytest.raises(InvalidInput, match="give it as peer"):
            await client.check(replace(get(), unknown_peer=WEB))


async def test_who_is_no_operator_is_told_so(world: World) -> None:
    who = Operators(Door(open_=False), world.caller, lambda: frozenset())  # type: ignore[arg-type]
    async with world.serving(who), grpc.aio.insecure_channel(f"unix:{world.socket}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await authorization_pb2_grpc.AuthorizationStub(channel).Explain(pb.AuthorizationQuestion())
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


# --- messages

_TEXT = st.text(max_size=10)
_NAME = st.text("abcdefghij-", min_size=1, max_size=8)
_BYTES = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_CLAIMS = st.none() | st.dictionaries(_UNICODE, _UNICODE | st.booleans() | st.lists(_UNICODE, max_size=2), max_size=3)
_HTTP = st.builds(
    HttpRequest,
    st.sampled_from(["GET", "POST", "x"]),
    _BYTES,
    st.none() | _UNICODE,
    st.dictionaries(_NAME, st.lists(_BYTES, min_size=1, max_size=3).map(tuple), max_size=3),
    _CLAIMS,
    st.booleans(),
    st.booleans(),
)
_ADDRESS = st.sampled_from([None, ip_address("10.0.0.1"), ip_address("2001:db8::1")])
_REQUESTS = st.builds(
    Request,
    st.none() | st.integers(1, 65535),
    st.sampled_from([None, WEB]),
    _ADDRESS,
    st.just(ip_address("192.0.2.7")),
    _ADDRESS,
    _NAME,
    st.none() | _HTTP,
    st.dictionaries(_NAME, st.dictionaries(_UNICODE, _UNICODE, max_size=2), max_size=2),
)


@given(_REQUESTS)
def test_a_request_is_the_same_on_the_other_side(request: Request) -> None:
    wire = pb.AuthorizationAttributes.FromString(message_of(request).SerializeToString())
    assert request_of(wire, Believed(frozenset({TD}), claims=True)) == request


@given(_REQUESTS)
def test_claims_and_metadata_are_dropped_of_others(request: Request) -> None:
    found = request_of(message_of(request), Believed(frozenset({TD}), claims=False))
    assert found.metadata == {}
    assert found.http is None or found.http.jwt is None


@pytest.mark.parametrize("client", [AuthorizationClient, BlockingAuthorizationClient])
def test_a_timeout_that_is_none_is_refused_with_what_is_wanted(
    client: type[AuthorizationClient] | type[BlockingAuthorizationClient],
) -> None:
    for wrong in (-1, 1.5, None):
        with pytest.raises(TypeError, match=r"timeout: expected a timedelta, as timedelta\(seconds=1\); not "):
            client("/run/s", timeout=wrong)  # type: ignore[arg-type]  # what callers without types do
    for no_time in (timedelta(0), timedelta(seconds=-1)):
        with pytest.raises(InvalidInput, match="timeout: expected more than no time"):
            client("/run/s", timeout=no_time)


def test_headers_that_are_no_mapping_are_refused_when_the_request_is_made() -> None:
    for wrong in ((("accept", "a"),), [("accept", "a")], None, "accept: a"):
        with pytest.raises(TypeError, match=r"headers: expected a mapping, as .*; not a "):
            HttpRequest("GET", "/", headers=wrong)  # type: ignore[arg-type]  # what callers without types do
    assert HttpRequest("GET", "/", headers=MappingProxyType({"accept": ("a",)})).headers["accept"] == ("a",)
