"""The ext_authz door on gRPC: it answers, whatever happens, and never aborts a call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from citadel.authz import Decision, MeshFacts, PolicySet, load_text
from citadel.authz.doors import AuthorizationService, Caller, Connection, Door, DoorRules
from citadel.authz.policyset import compile_documents
from citadel.errors import CitadelError, PermissionDenied, ResourceExhausted, Unavailable
from tests.support.deciding import deciding
from tests.unit.authz.test_door import CART, POLICIES, TD, TOKENS, bearer, caller, message

CHECK = "/envoy.service.auth.v3.Authorization/Check"
Ask = Callable[[bytes], Awaitable[external_auth_pb2.CheckResponse]]


class Known:
    """Everybody is cart; or, if there is an error, nobody is anybody."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def caller(self, connection: Connection) -> Caller:
        if self.error is not None:
            raise self.error
        return caller(CART)


class Meter:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def decided(self, door: str, decision: Decision, seconds: float) -> None:
        assert seconds >= 0
        self.reasons.append(f"{door} {decision.reason}")


class World:
    def __init__(self) -> None:
        self.known = Known()
        self.meter = Meter()
        self.policies: PolicySet | None = compile_documents(load_text(POLICIES), MeshFacts(TD))

    @asynccontextmanager
    async def asking(self, folder: Path) -> AsyncIterator[Ask]:
        server = grpc.aio.server()
        point = deciding(lambda: self.policies, meter=self.meter)
        AuthorizationService(Door(point, DoorRules()), self.known).add_to(server)
        server.add_insecure_port(f"unix:{folder}/s")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
                yield channel.unary_unary(CHECK, bytes, external_auth_pb2.CheckResponse.FromString)
        finally:
            await server.stop(None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionDenied("gone"), "denied_response"),
        (Unavailable("not here yet"), "denied_response"),
        (ResourceExhausted("too many"), "error_response"),
        (CitadelError("x"), "error_response"),
        (RuntimeError("secret"), "error_response"),
    ],
)
async def test_a_caller_that_is_not_known_is_answered(tmp_path: Path, error: Exception, kind: str) -> None:
    world = World()
    world.known.error = error
    async with world.asking(tmp_path) as ask:
        answer = await ask(message().SerializeToString())
        assert answer.WhichOneof("http_response") == kind
        assert answer.status.code != 0
        assert "secret" not in str(answer)
        world.known.error = None
        assert (await ask(message().SerializeToString())).status.code == 0


async def test_bytes_that_are_no_message_are_denied_in_the_body(tmp_path: Path) -> None:
    async with World().asking(tmp_path) as ask:
        assert (await ask(b"\xff\xff\xff")).denied_response.status.code == 403
        assert (await ask(b"")).denied_response.status.code == 403


async def test_while_sets_are_switched_under_load_no_answer_is_wrong_or_missing(tmp_path: Path) -> None:
    texts = (POLICIES + TOKENS, POLICIES.replace("/cart/", "/basket/") + TOKENS)
    sets = [compile_documents(load_text(text), MeshFacts(TD)) for text in texts]
    expected = {sets[0].version: 0, sets[1].version: 7}
    world = World()
    world.policies = sets[0]
    asked = [message(headers=headers).SerializeToString() for headers in ({}, bearer("alice"))]
    seen: Counter[str] = Counter()
    async with world.asking(tmp_path) as ask:

        async def client(number: int) -> None:
            for turn in range(60):
                answer = await ask(asked[(number + turn) % 2])
                version = answer.dynamic_metadata["version"]
                assert answer.status.code == expected[version], answer
                seen[version] += 1

        async def switch() -> None:
            while sum(seen.values()) < 16 * 60:
                world.policies = sets[sum(seen.values()) // 40 % 2]
                await asyncio.sleep(0)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(switch())
            for number in range(16):
                group.create_task(client(number))
    assert set(seen) == set(expected)


async def test_the_set_in_force_is_asked_each_time(tmp_path: Path) -> None:
    world = World()
    first, world.policies = world.policies, None
    async with world.asking(tmp_path) as ask:
        assert (await ask(message().SerializeToString())).denied_response.status.code == 503
        world.policies = first
        assert (await ask(message().SerializeToString())).status.code == 0
        world.policies = compile_documents(load_text(POLICIES.replace("/cart/", "/basket/")), MeshFacts(TD))
        assert (await ask(message().SerializeToString())).denied_response.status.code == 403
    assert world.meter.reasons == ["ext_authz not-loaded", "ext_authz allowed-by-policy", "ext_authz no-allow-matched"]
