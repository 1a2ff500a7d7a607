"""The AuthZEN port itself: who is at the other end, TLS that follows the trust bundle, connections that end."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvloop

from citadel.api.authzen import (
    Anchors,
    AuthzenParts,
    Bearers,
    CallerRules,
    Contexts,
    TlsFiles,
    application,
    connections,
    serving,
)
from citadel.api.authzen.callers import Caller
from citadel.errors import FailedPrecondition, Unauthenticated, UnsafePermissions
from citadel.spiffe import TrustDomain
from citadel.workload.listener import Listener
from tests.support.certificates import Ca
from tests.unit.authzen.world import World, question

OURS = frozenset({TrustDomain("example.org")})


def anchors(roots: tuple[bytes, ...], crls: tuple[bytes, ...] = ()) -> Anchors:
    return Anchors(roots, crls, OURS)


PEP = "spiffe://example.org/ns/edge/sa/gateway"
EVALUATION = "/access/v1/evaluation"


@asynccontextmanager
async def unix_port(path: Path, *allowed: str) -> AsyncIterator[httpx.AsyncClient]:
    app = application(AuthzenParts(World().door(), lambda: CallerRules(frozenset(allowed)), "https://localhost", True))
    with Listener(path, mode=0o600) as listener:
        async with serving(app, listener):
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                yield client


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_unix_socket_knows_its_callers(tmp_path: Path, loop: type[asyncio.AbstractEventLoop]) -> None:
    async def ask(*allowed: str) -> int:
        async with unix_port(tmp_path / "s", *allowed) as client:
            return (await client.post(EVALUATION, json=question())).status_code

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask(f"uid:{os.geteuid()}")) == 200
        assert runner.run(ask(f"gid:{os.getegid()}")) == 200
        assert runner.run(ask("uid:64999", PEP)) == 403


async def test_who_sends_half_a_request_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_BOUNDS", replace(connections._BOUNDS, head_seconds=0.05))
    async with unix_port(tmp_path / "s") as client, asyncio.timeout(10):
        await client.get("/")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"POST /access/v1/evaluation HTTP/1.1\r\nHost:")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_one_connection_too_many_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_BOUNDS", replace(connections._BOUNDS, connections=1))
    async with unix_port(tmp_path / "s") as client, asyncio.timeout(10):
        assert (await client.get("/")).status_code == 403
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(tmp_path / "s"))) as other:
                await other.get("http://localhost/")


class TlsPort:
    """A port by TLS, whose anchors a test may change."""

    def __init__(self, folder: Path, ours: Ca) -> None:
        self.ours = ours
        self.folder = folder
        self.anchors = Anchors(())
        self.files = TlsFiles(*ours.issue(folder / "server"))
        self.port = 0
        self.bearers: Bearers | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        contexts = Contexts(self.files, lambda: self.anchors, demanded=self.bearers is None)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        rules = CallerRules(frozenset({PEP}))
        parts = AuthzenParts(World().door(), lambda: rules, "https://localhost", True, bearers=self.bearers)
        async with serving(application(parts), listener, contexts):
            yield
        listener.close()

    def client(self, files: tuple[Path, Path] | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cadata=self.ours.der)
        if files is not None:
            context.load_cert_chain(*files)
        return httpx.AsyncClient(verify=context, base_url=f"https://localhost:{self.port}")

    async def status(self, files: tuple[Path, Path] | None, **headers: str) -> int | str:
        async with self.client(files) as client:
            try:
                return (await client.post(EVALUATION, json=question(), headers=headers)).status_code
            except httpx.TransportError:
                return "no connection"


@pytest.fixture
def port(tmp_path: Path) -> TlsPort:
    return TlsPort(tmp_path, Ca("ours"))


async def test_only_identities_that_are_named_and_verified_may_ask(port: TlsPort, tmp_path: Path) -> None:
    clients, others = Ca("clients"), Ca("others")
    port.anchors = anchors((clients.der,))
    async with port.open():
        assert await port.status(clients.issue(tmp_path / "a", PEP)) == 200
        assert await port.status(clients.issue(tmp_path / "b", "spiffe://example.org/ns/edge/sa/other")) == 403
        assert await port.status(clients.issue(tmp_path / "c")) == 403  # no SPIFFE ID at all
        assert await port.status(others.issue(tmp_path / "d", PEP)) == "no connection"
        assert await port.status(None) == "no connection"


async def test_where_access_tokens_are_taken_a_certificate_is_not_demanded_and_counts_if_it_is_there(
    port: TlsPort, tmp_path: Path
) -> None:
    class Bearer:
        """Contract: Bearers. There is one good token."""

        challenge = 'Bearer realm="x"'

        async def caller(self, authorization: Iterable[bytes]) -> Caller | None:
            for value in authorization:
                if value != b"Bearer good":
                    raise Unauthenticated("it is not good")
                return Caller(frozenset({PEP}), "good")
            return None

    clients, others = Ca("clients"), Ca("others")
    port.anchors, port.bearers = anchors((clients.der,)), Bearer()
    async with port.open():
        assert await port.status(None) == 401
        assert await port.status(None, Authorization="Bearer good") == 200
        assert await port.status(None, Authorization="Bearer bad") == 401
        assert await port.status(clients.issue(tmp_path / "a", PEP)) == 200
        assert await port.status(clients.issue(tmp_path / "b", f"{PEP}s")) == 403
        assert await port.status(others.issue(tmp_path / "c", PEP), Authorization="Bearer good") == "no connection"


async def test_a_ca_names_nobody_of_a_trust_domain_that_it_does_not_speak_for(port: TlsPort, tmp_path: Path) -> None:
    clients = Ca("clients")
    port.anchors = Anchors((clients.der,), trust_domains=frozenset({TrustDomain("partner.example")}))
    async with port.open():
        assert await port.status(clients.issue(tmp_path / "a", PEP)) == 403


async def test_what_is_trusted_follows_the_bundle(port: TlsPort, tmp_path: Path) -> None:
    old, new = Ca("old"), Ca("new")
    mine, next_one = old.issue(tmp_path / "a", PEP), new.issue(tmp_path / "b", PEP)
    port.anchors = Anchors(())
    async with port.open():
        assert await port.status(mine) == "no connection"  # nothing is trusted yet
        port.anchors = anchors((old.der,))
        assert await port.status(mine) == 200
        async with port.client(mine) as kept:
            assert "connection" not in (await kept.post(EVALUATION, json=question())).headers
            port.anchors = anchors((new.der,))
            last = await kept.post(EVALUATION, json=question())  # it was verified by what is not trusted any more
            assert last.headers["connection"] == "close"
            with pytest.raises(httpx.TransportError):
                await kept.post(EVALUATION, json=question())
        assert await port.status(next_one) == 200


async def test_a_revoked_certificate_is_nobody(port: TlsPort, tmp_path: Path) -> None:
    clients = Ca("clients")
    mine = clients.issue(tmp_path / "a", PEP)
    port.anchors = anchors((clients.der,), (clients.crl(clients.last.serial_number),))
    async with port.open():
        assert await port.status(mine) == 403
        port.anchors = anchors((clients.der,), (clients.crl(7),))
        assert await port.status(mine) == 200
        async with port.client(mine) as kept:  # also on a connection that is open
            assert (await kept.post(EVALUATION, json=question())).status_code == 200
            port.anchors = anchors((clients.der,), (clients.crl(clients.last.serial_number),))
            last = await kept.post(EVALUATION, json=question())
            assert (last.status_code, last.headers["connection"]) == (403, "close")


async def test_a_certificate_that_ends_on_an_open_connection_is_nobody_s(
    port: TlsPort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=366)

    clients = Ca("clients")
    port.anchors = anchors((clients.der,))
    async with port.open(), port.client(clients.issue(tmp_path / "a", PEP)) as kept:
        assert (await kept.post(EVALUATION, json=question())).status_code == 200
        monkeypatch.setattr(connections, "datetime", Tomorrow)
        last = await kept.post(EVALUATION, json=question())
        assert (last.status_code, last.headers["connection"]) == (403, "close")


async def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(port: TlsPort, tmp_path: Path) -> None:
    clients = Ca("clients")
    mine = clients.issue(tmp_path / "a", PEP)
    port.anchors = anchors((clients.der,))
    async with port.open():
        port.files.key.write_text("half a k")
        assert await port.status(mine) == 200
        port.anchors = anchors((clients.der, Ca("another").der))
        assert await port.status(mine) == 200  # trust goes on being followed
        port.ours = Ca("ours, renewed")
        port.ours.issue(tmp_path / "server")
        assert await port.status(mine) == 200


@pytest.mark.parametrize("broken", ["certificate", "key"])
def test_files_that_are_none_are_refused(port: TlsPort, broken: str) -> None:
    getattr(port.files, broken).write_text("x")
    with pytest.raises(FailedPrecondition, match=r"authorization\.authzen\.tls_cert"):
        Contexts(port.files, lambda: Anchors(()))
    getattr(port.files, broken).unlink()
    with pytest.raises(FailedPrecondition, match="there is no TLS"):
        Contexts(port.files, lambda: Anchors(()))


def test_a_key_that_everybody_may_read_is_refused(port: TlsPort) -> None:
    port.files.key.chmod(0o644)
    with pytest.raises(UnsafePermissions, match="others may read"):
        Contexts(port.files, lambda: Anchors(()))
    port.files.key.chmod(0o640)
    Contexts(port.files, lambda: Anchors(()))
