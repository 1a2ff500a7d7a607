"""A webhook: signed, over TLS, bounded; only 2xx says yes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.ca.rotation.hooks import Checked, Question, Verdict
from citadel.errors import NotFound
from citadel.hooks import Webhook
from citadel.server import planning
from tests.support import key_server
from tests.support.certificates import Ca

ASKED = Question(Checked.PREPARE, "example.org")


class Gate:
    """Answers each request with `status` and `body`, and keeps what it was told."""

    def __init__(self) -> None:
        self.status, self.body, self.silent = "200 OK", b"fine", False
        self.head: dict[str, str] = {}
        self.told = b""
        self.port = 0
        self.ended, self.done = asyncio.Event(), asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.head = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            self.told = await reader.readexactly(int(self.head["content-length"]))
            if self.silent:
                self.done.clear()
                await self.ended.wait()
            head = f"HTTP/1.1 {self.status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: {len(self.body)}"
            writer.write(f"{head}\r\n\r\n".encode() + self.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            self.done.set()

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/check?mesh=a"


@asynccontextmanager
async def gate(tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    made = Gate()
    listening = await asyncio.start_server(made.handle, "127.0.0.1", 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.ended.set()
        if made.silent:
            await made.done.wait()
        listening.close()


async def test_it_is_told_what_is_to_happen_signed() -> None:
    async with gate() as made:
        key = b"0123456789abcdef"
        for secret in (key, b"whsec_" + base64.b64encode(key) + b"\n"):
            hook = Webhook(made.url(), timeout=10, secret=lambda s=secret: s)  # type: ignore[misc]
            assert await hook.ask(ASKED) == Verdict(True, "fine")
            assert json.loads(made.told)["phase"] == "prepare"
            signed = f"{made.head['webhook-id']}.{made.head['webhook-timestamp']}.".encode() + made.told
            expected = hmac.new(key, signed, hashlib.sha256).digest()
            # header values were made lower case above, so compare as such
            assert made.head["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}".lower()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        ("403 No", b"canary is red\n", "answered 403: canary is red"),
        ("302 Found", b"", "answered 302"),
        ("500 Oh", b"\x1b[2J", "answered 500: ?[2J"),
    ],
)
async def test_all_else_says_no_and_no_redirect_is_followed(status: str, body: bytes, why: str) -> None:
    async with gate() as made:
        made.status, made.body = status, body
        verdict = await Webhook(made.url(), timeout=10).ask(ASKED)
        assert not verdict.passed
        assert verdict.why == f"127.0.0.1:{made.port} {why}"


async def test_an_endless_answer_is_cut_and_silence_says_no() -> None:
    async with gate() as made:
        made.body = b"x" * 1_000_000
        assert len((await Webhook(made.url(), timeout=10).ask(ASKED)).why) == 300
        made.silent = True
        verdict = await Webhook(made.url(), timeout=0.3).ask(ASKED)
        assert not verdict.passed
        assert "gave no answer within 0.3 s" in verdict.why


async def test_what_cannot_be_asked_says_no() -> None:
    def gone() -> bytes:
        raise NotFound("there is no webhook secret /x")

    async with gate() as made:
        assert "there is no webhook secret" in (await Webhook(made.url(), timeout=5, secret=gone).ask(ASKED)).why
        port = made.port
    verdict = await Webhook(f"http://127.0.0.1:{port}/", timeout=10).ask(ASKED)
    assert not verdict.passed
    assert "could not be asked" in verdict.why


def server_side(folder: Path, ca: Ca) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue(folder))
    return context


async def test_over_tls_by_a_ca_of_ones_own_it_is_heard(tmp_path: Path) -> None:
    ca, file = Ca("gate"), tmp_path / "gate.pem"
    file.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    async with gate(server_side(tmp_path / "server", ca)) as made:
        url = f"https://localhost:{made.port}/check"
        assert await Webhook(url, timeout=10, tls=partial(planning._tls, file)).ask(ASKED) == Verdict(True, "fine")
        assert json.loads(made.told)["phase"] == "prepare"
        file.write_bytes(Ca("gate").certificate.public_bytes(Encoding.PEM))  # read each time
        verdict = await Webhook(url, timeout=10, tls=partial(planning._tls, file)).ask(ASKED)
        assert "certificate" in verdict.why.lower()


@pytest.mark.parametrize(
    "url",
    [f"https://{'a' * 64}.example/", "https://a..example/", "https://xn--a.example/", "https://exa mple/"],
)
async def test_an_address_that_is_none_says_no_and_raises_nothing(url: str) -> None:
    verdict = await Webhook(url, timeout=5).ask(ASKED)
    assert not verdict.passed
    assert "could not be asked" in verdict.why or "gave no answer" in verdict.why


async def test_a_server_that_says_100_for_ever_says_no() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0)

    listening = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    verdict = await Webhook(f"http://127.0.0.1:{port}/", timeout=0.5).ask(ASKED)
    listening.close()
    assert not verdict.passed


@pytest.mark.parametrize("secret", [b"", b"\n", b"hunter2", b"whsec_", b"whsec_" + base64.b64encode(b"short")])
async def test_nothing_is_signed_with_a_secret_that_can_be_guessed(secret: bytes) -> None:
    verdict = await Webhook("https://localhost:1/", timeout=5, secret=lambda: secret).ask(ASKED)
    assert "the webhook secret has" in verdict.why


async def test_a_certificate_that_nobody_vouches_for_says_no() -> None:
    async with gate(key_server._server_context()) as made:
        verdict = await Webhook(made.url("https"), timeout=10, tls=key_server.client_context).ask(ASKED)
        assert not verdict.passed  # it is another host's
        assert "certificate" in verdict.why.lower()
