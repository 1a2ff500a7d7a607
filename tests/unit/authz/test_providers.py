"""Extension providers, really asked over gRPC and HTTP: what they are sent, what they may say, and how they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from citadel.authz import Answer, ExtensionProvider, HttpRequest, ProviderProtocol, Request
from citadel.authz.decision_point import Changes, ProviderReply, Refusal
from citadel.authz.providers import ProviderClients
from citadel.authz.providers import clients as clients_module
from citadel.authz.providers.replies import MAX_BODY
from citadel.spiffe import SpiffeId

Said: Any = external_auth_pb2.CheckResponse
TIMEOUT = timedelta(seconds=10)
HTTP = HttpRequest(
    "PUT",
    "/a%2fb?c=[d]",
    "cart.shop:80",
    {"x": ("1", "2"), "authorization": ("Bearer t",), "cookie": ("k=v",), "te": ("trailers",), "x-odd": ("\udcff",)},
)
ASKED = Request(
    8080, SpiffeId.parse("spiffe://td/ns/a/sa/b"), ip_address("10.0.0.1"), ip_address("10.0.0.2"), sni="s", http=HTTP
)


@asynccontextmanager
async def grpc_provider(
    answer: Callable[[external_auth_pb2.CheckRequest], Awaitable[bytes]],
) -> AsyncIterator[ExtensionProvider]:
    async def check(request: external_auth_pb2.CheckRequest, _: Any) -> bytes:
        return await answer(request)

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check, external_auth_pb2.CheckRequest.FromString)
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield ExtensionProvider("p", ProviderProtocol.GRPC, "127.0.0.1", port, TIMEOUT)
    finally:
        await server.stop(None)


@asynccontextmanager
async def http_provider(answer: bytes, received: list[bytes] | None = None) -> AsyncIterator[ExtensionProvider]:
    """It says just this; b"" is nothing, ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if received is not None:
                received.append(head)
            if answer:
                writer.write(answer)
                await writer.drain()
            else:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield ExtensionProvider("p", ProviderProtocol.HTTP, "127.0.0.1", port, TIMEOUT, path_prefix="/check")


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def asked(provider: ExtensionProvider, request: Request = ASKED) -> ProviderReply:
    async with ProviderClients() as clients:
        return await clients.ask(provider, request)


async def said(message: Any) -> ProviderReply:
    async def answer(_: external_auth_pb2.CheckRequest) -> bytes:
        return bytes(message.SerializeToString())

    async with grpc_provider(answer) as provider:
        return await asked(provider)


def ok(**more: Any) -> Any:
    message = Said(ok_response=more)
    message.status.code = 0
    message.status.SetInParent()
    return message


def header(name: str, value: str, **more: Any) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, **more}


async def test_a_grpc_provider_is_sent_what_an_envoy_would_send() -> None:
    seen: list[external_auth_pb2.CheckRequest] = []

    async def answer(request: external_auth_pb2.CheckRequest) -> bytes:
        seen.append(request)
        return bytes(ok().SerializeToString())

    async with grpc_provider(answer) as provider:
        assert (await asked(provider)).answer is Answer.ALLOW
    attributes = seen[0].attributes
    http = attributes.request.http
    assert (http.method, http.path, http.host) == ("PUT", "/a%2fb?c=[d]", "cart.shop:80")
    assert (http.headers["x"], http.headers[":path"], http.headers["x-odd"]) == ("1,2", http.path, "!")
    assert attributes.source.principal == "spiffe://td/ns/a/sa/b"
    assert attributes.source.address.socket_address.address == "10.0.0.2"
    assert attributes.destination.address.socket_address.port_value == 8080
    assert attributes.tls_session.sni == "s"
    assert not attributes.HasField("metadata_context")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Said(status={"code": 0}), Answer.ALLOW),
        (ok(), Answer.ALLOW),
        (Said(status={"code": 7}), Answer.DENY),
        (Said(status={"code": 16}, ok_response={}), Answer.DENY),
        (Said(), Answer.FAILED),
        (Said(status={"code": 0}, denied_response={"body": "no"}), Answer.FAILED),
        (Said(status={"code": 7}, error_response={"body": "no"}), Answer.FAILED),
        (ok(headers=[header("host", "x")]), Answer.FAILED),
        (ok(headers=[header(":path", "/x")]), Answer.FAILED),
        (ok(headers=[header("a", "b\r\nc: d")]), Answer.FAILED),
        (ok(headers=[header("a b", "c")]), Answer.FAILED),
        (ok(headers_to_remove=["content-length"]), Answer.FAILED),
        (ok(query_parameters_to_remove=["a"]), Answer.FAILED),
        (ok(headers=[header("a", "b")] * 101), Answer.FAILED),
    ],
)
async def test_what_a_grpc_provider_says(message: Any, expected: Answer) -> None:
    assert (await said(message)).answer is expected


async def test_what_a_grpc_provider_wants_done_and_told() -> None:
    wanted = ok(
        headers=[header("X-A", "1"), header("x-b", "2", append={"value": True}), header("x-c", "3", append_action=2)],
        headers_to_remove=["X-D"],
        response_headers_to_add=[header("x-e", "5")],
    )
    changes = Changes((("x-a", "1"), ("x-c", "3")), (("x-b", "2"),), ("x-d",), (), (("x-e", "5"),))
    assert (await said(wanted)).changes == changes
    denied = {"status": {"code": 401}, "headers": [header("a", "b")], "body": "go"}
    no = Said(status={"code": 7}, denied_response=denied)
    assert (await said(no)).refusal == Refusal(401, (("a", "b"),), b"go")
    looks_fine = Said(status={"code": 7}, denied_response={"status": {"code": 200}})
    assert (await said(looks_fine)).refusal == Refusal(403)


async def test_a_grpc_provider_that_aborts_or_says_nothing_or_nonsense_has_failed() -> None:
    async def aborts(_: external_auth_pb2.CheckRequest) -> bytes:
        raise RuntimeError

    async def never(_: external_auth_pb2.CheckRequest) -> bytes:
        await asyncio.sleep(600)
        return b""

    async def nonsense(_: external_auth_pb2.CheckRequest) -> bytes:
        return b"\xff\xff"

    for answer, timeout in ((aborts, 10.0), (never, 0.2), (nonsense, 10.0)):
        async with grpc_provider(answer) as provider:
            reply = await asked(replace(provider, timeout=timedelta(seconds=timeout)))
            assert (reply.answer, bool(reply.why)) == (Answer.FAILED, True)


async def test_who_is_gone_has_failed_and_is_asked_again_when_he_is_back() -> None:
    async def answer(_: external_auth_pb2.CheckRequest) -> bytes:
        return bytes(ok().SerializeToString())

    async with ProviderClients() as clients:
        async with grpc_provider(answer) as provider:
            assert (await clients.ask(provider, ASKED)).answer is Answer.ALLOW
        gone = await clients.ask(provider, ASKED)
        assert gone.answer is Answer.FAILED
        async with http_provider(response("200 OK")) as other:
            assert (await clients.ask(other, ASKED)).answer is Answer.ALLOW
        assert (await clients.ask(other, ASKED)).answer is Answer.FAILED
    assert (await clients.ask(other, ASKED)).answer is Answer.FAILED


async def test_an_http_provider_is_sent_the_request_s_own_method_and_path_and_few_headers() -> None:
    received: list[bytes] = []
    async with http_provider(response("200 OK"), received) as provider:
        told = replace(
            provider,
            include_request_headers_in_check=("X", "te"),
            include_additional_headers_in_check=(("x-from", "citadel"),),
        )
        forged = replace(ASKED, http=replace(HTTP, headers={**HTTP.headers, "x-from": ("me",)}))
        assert (await asked(told, forged)).why == ""
    first, *lines = received[0].decode("latin-1").strip().split("\r\n")
    assert first == "PUT /check/a%2fb?c=[d] HTTP/1.1"
    names = [line.split(":")[0].lower() for line in lines]
    assert lines[0].lower() == "host: cart.shop:80"
    assert {"authorization: Bearer t", "x-from: citadel", "x: 1", "x: 2"} <= set(lines)
    assert not {"cookie", "te"} & set(names)
    assert names.count("x-from") == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response("200 OK"), Answer.ALLOW),
        (response("403 No"), Answer.DENY),
        (response("204 Fine"), Answer.DENY),
        (response("302 There", "location: http://127.0.0.1/"), Answer.DENY),
        (response("500 Oh"), Answer.FAILED),
        (response("200 OK", "x-up: a", "host: b"), Answer.ALLOW),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", Answer.FAILED),
        (b"nonsense\r\n\r\n", Answer.FAILED),
        (response("403 No", body=b"x" * (MAX_BODY + 1)), Answer.FAILED),
    ],
)
async def test_what_an_http_provider_says(answer: bytes, expected: Answer) -> None:
    async with http_provider(answer) as provider:
        assert (await asked(provider)).answer is expected


async def test_of_an_http_answer_only_the_configured_headers_go_on() -> None:
    headers = ("X-Up: 1", "x-down: 2", "set-cookie: a", "location: /l")
    async with http_provider(response("200 OK", *headers)) as provider:
        told = replace(provider, headers_to_upstream_on_allow=("x-up",), headers_to_downstream_on_allow=("X-Down",))
        assert (await asked(told)).changes == Changes((("x-up", "1"),), response_headers=(("x-down", "2"),))
    async with http_provider(response("401 No", *headers, body=b"go")) as provider:
        told = replace(provider, headers_to_downstream_on_deny=("set-*",))
        refusal = Refusal(401, (("set-cookie", "a"), ("location", "/l")), b"go")
        assert (await asked(told)).refusal == refusal


async def test_all_headers_of_an_answer_are_all_but_those_of_the_message_itself() -> None:
    headers = ("x: 1", "x: 2", "connection: close", "X-Envoy-Auth-Headers-To-Remove: a, B")
    async with http_provider(response("200 OK", *headers)) as provider:
        reply = await asked(replace(provider, headers_to_upstream_on_allow=("*",)))
        assert reply.changes == Changes((("x", "1"), ("x", "2")), remove_headers=("a", "b")), reply.why
    async with http_provider(response("304 Unchanged", "x: 1", body=b"")) as provider:
        reply = await asked(replace(provider, headers_to_downstream_on_deny=("*",)))
        assert reply.refusal == Refusal(403, (("x", "1"),))
    async with http_provider(response("200 OK", "X-Envoy-Auth-Headers-To-Remove: host")) as provider:
        assert (await asked(provider)).answer is Answer.FAILED


async def test_an_http_provider_that_is_slow_has_failed() -> None:
    async with http_provider(b"") as provider:
        assert (await asked(replace(provider, timeout=timedelta(seconds=0.2)))).answer is Answer.FAILED


async def test_a_path_that_would_be_changed_on_the_way_is_not_asked_about() -> None:
    received: list[bytes] = []
    async with http_provider(response("200 OK"), received) as provider:
        reply = await asked(provider, replace(ASKED, http=replace(HTTP, path='/a"b')))
    assert (reply.answer, received) == (Answer.FAILED, [])


async def test_a_provider_that_wants_the_body_is_not_asked_without_it() -> None:
    async with http_provider(response("200 OK")) as provider:
        assert (await asked(replace(provider, max_request_bytes=1))).answer is Answer.FAILED


async def test_so_many_questions_to_one_provider_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "MOST_AT_ONCE", 1)
    async with http_provider(b"") as provider, ProviderClients() as clients:
        brief = replace(provider, timeout=timedelta(seconds=0.3))
        first = asyncio.create_task(clients.ask(brief, ASKED))
        await asyncio.sleep(0)
        assert "questions" in (await clients.ask(brief, ASKED)).why
        await first
        assert "no answer" in (await clients.ask(brief, ASKED)).why
