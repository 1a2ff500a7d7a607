"""The ext_authz door over ASGI: the same answers as on grpc.aio, and a status for whatever is no call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import given
from hypothesis import strategies as st

from citadel.authz.doors import AuthorizationService, Caller, Connection, over_asgi
from citadel.authz.doors.over_asgi import CheckOverAsgi, ForwardedCertificate
from tests.unit.authz.test_door import CART, DOOR, caller, message

PATH = "/envoy.service.auth.v3.Authorization/Check"
HEADERS = [(b"content-type", b"application/grpc+proto"), (b"te", b"trailers")]


class Known:
    def __init__(self) -> None:
        self.seen: list[Connection] = []

    async def caller(self, connection: Connection) -> Caller:
        self.seen.append(connection)
        return caller(CART)


KNOWN = Known()
SERVICE = AuthorizationService(DOOR, KNOWN)
APP = CheckOverAsgi(SERVICE, ForwardedCertificate)


async def call(*pieces: bytes, **scope: Any) -> tuple[bytes, dict[bytes, bytes]]:
    """Body and trailers."""
    sent: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    waiting[-1]["more_body"] = False
    events: Iterator[dict[str, Any]] = iter([*waiting, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(events)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    asked = {"type": "http", "method": "POST", "path": PATH, "headers": HEADERS, "client": ("10.0.0.1", 7)} | scope
    await APP(asked, receive, send)
    start, body, trailers = sent
    assert (start["status"], start["trailers"]) == (200, True)
    return body["body"], dict(trailers["headers"])


def framed(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_it_answers_as_on_grpc(size: int) -> None:
    asked = message().SerializeToString()
    whole = framed(asked)
    body, trailers = await call(*(whole[at : at + size] for at in range(0, len(whole), size)))
    assert trailers == {b"grpc-status": b"0"}
    answer = external_auth_pb2.CheckResponse.FromString(body[5:])
    expected = external_auth_pb2.CheckResponse.FromString(await SERVICE.answer(asked, KNOWN.seen[0]))
    for one in (answer, expected):
        one.dynamic_metadata.fields.pop("id")  # of the decision: each has its own
    assert answer == expected
    assert body[:5] == framed(body[5:])[:5]


@pytest.mark.parametrize(
    ("body", "scope", "status"),
    [
        (b"", {}, 3),
        (b"\0\0\0\0", {}, 3),
        (b"\0\0\0\0\1", {}, 3),
        (b"\0\0\0\0\0more", {}, 3),
        (b"\1\0\0\0\0", {}, 12),
        (b"\0" * 300_000, {}, 8),
        (b"\0\0\0\0\0", {"method": "GET"}, 12),
        (b"\0\0\0\0\0", {"path": "/x"}, 12),
        (b"\0\0\0\0\0", {"headers": []}, 12),
        (b"\0\0\0\0\0", {"headers": [(b"content-type", b"application/json")]}, 12),
    ],
)
async def test_what_is_no_call_ends_with_a_status(body: bytes, scope: dict[str, Any], status: int) -> None:
    answer, trailers = await call(body, **scope)
    assert (answer, trailers[b"grpc-status"]) == (b"", str(status).encode())


@given(st.binary(max_size=40))
def test_whatever_comes_there_is_an_end(body: bytes) -> None:
    _, trailers = asyncio.run(call(body))
    assert trailers[b"grpc-status"].isdigit()


async def test_a_message_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_asgi, "_SECONDS", 0.01)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(30)
        return {}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await APP({"type": "http", "method": "POST", "path": PATH, "headers": HEADERS}, receive, send)
    assert (b"grpc-status", b"4") in sent[-1]["headers"]


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"x-forwarded-client-cert", b'Hash=00;Cert="' + quote("-----BEGIN\nx").encode() + b'";URI=spiffe://a/b')],
         {"x509_pem_cert": [b"-----BEGIN\nx"]}),
        ([(b"x-forwarded-client-cert", b"Hash=00")], {}),
        ([(b"x-forwarded-client-cert", b"Cert=a"), (b"x-forwarded-client-cert", b"Cert=b")], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_the_certificate_is_what_the_own_envoy_forwards(
    headers: list[tuple[bytes, bytes]], found: dict[str, Any]
) -> None:
    connection = ForwardedCertificate({"headers": headers, "client": ("10.0.0.1", 7)})
    assert connection.auth_context() == found
    assert connection.peer() == "10.0.0.1:7"
