"""ext_authz over HTTP on its socket: the target as it came, and an answer, or none, to whatever is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from citadel.api.ext_authz_http import serving
from citadel.authz import MeshFacts, compile, load_text  # noqa: A004  (as in re.compile)
from citadel.authz.doors import Caller, Connection, DoorRules, HttpDoor, HttpRules
from citadel.errors import PermissionDenied, ResourceExhausted, Unavailable
from tests.support.deciding import Observed, deciding
from tests.unit.authz.test_door import CART, TD, caller

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: exact, namespace: shop}
spec: {rules: [{when: [{key: "request.headers[:path]", values: [/a, "/b?", "/c?x=%20y"]}]}]}
"""


class Known:
    """Contract: doors.Callers. Everybody is cart; or, if there is an error, nobody is anybody."""

    error: Exception | None = None
    peer = ""

    async def caller(self, connection: Connection) -> Caller:
        self.peer = connection.peer()
        if self.error is not None:
            raise self.error
        return caller(CART)


class World:
    def __init__(self, folder: Path) -> None:
        self.known, self.observed, self.socket = Known(), Observed(), folder / "s"
        point = deciding(compile(load_text(POLICY), MeshFacts(TD)), observer=self.observed)
        self.door = HttpDoor(point, DoorRules(), HttpRules())

    async def says(self, sent: bytes, answers: int = 1) -> list[int]:
        """The statuses of so many answers; fewer, if the connection ends before."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        found: list[int] = []
        try:
            writer.write(sent)
            async with asyncio.timeout(20):
                while len(found) < answers:
                    head = await reader.readuntil(b"\r\n\r\n")
                    found.append(int(head.split(b" ", 2)[1]))
                    lines = head.lower().split(b"\r\n")
                    lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
                    if lengths and not sent.startswith(b"HEAD"):
                        await reader.readexactly(lengths[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[World]:
    made = World(folder)
    async with serving(made.door, made.known, made.socket):
        yield made


def get(target: bytes, method: bytes = b"GET", *lines: bytes) -> bytes:
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", b"host: a", b"x-forwarded-proto: http", *lines, b"", b""]
    )


SENT = [
    (get(b"/a"), [200]),
    (get(b"/a?"), [403]),
    (get(b"/b?"), [200]),
    (get(b"/b"), [403]),
    (get(b"/c?x=%20y"), [200]),
    (get(b"/c?x=+y"), [403]),
    (get(b"http://a/a"), [400]),
    (get(b"*", b"OPTIONS"), [403]),
    (get(b"a:80", b"CONNECT"), [400]),
    (get(b"/x", b"HEAD"), [403]),
    (get(b"/a", b"GET", b"upgrade: websocket", b"connection: upgrade"), [200]),
    (get(b"/a", b"POST", b"content-length: 2") + b"xy", [200]),
    (get(b"/a", b"GET", b"x: " + b"y" * 400_000), [400]),
    (get(b"/a", b"GET", b"host: b"), [400]),
    (get(b"/a", b"POST", b"content-length: 1", b"content-length: 2"), [400]),
    (get(b"/a", b"POST", b"transfer-encoding: x"), [400]),
    (b"GET /a HTTP/1.1\r\n\r\n", [400]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", [400]),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [403]),
]


async def test_only_what_is_allowed_is_200(world: World) -> None:
    for sent, statuses in SENT:
        assert await world.says(sent) == statuses, sent[:80]


async def test_requests_behind_one_another_are_each_decided_by_their_own_target(world: World) -> None:
    assert await world.says(get(b"/a") + get(b"/x") + get(b"/b?") + get(b"/b"), 4) == [200, 403, 200, 403]


async def test_a_caller_that_is_not_known_is_denied(world: World) -> None:
    errors = [(PermissionDenied("who?"), 403), (Unavailable("not yet"), 403), (ResourceExhausted("many"), 503)]
    for number, (error, status) in enumerate([*errors, (KeyError(), 503)], 1):
        world.known.error = error
        assert await world.says(get(b"/a")) == [status]
        assert len(world.observed) == number
