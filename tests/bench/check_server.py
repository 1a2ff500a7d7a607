"""A server of nothing but Check, for the bench: `python -m tests.bench.check_server TRANSPORT POLICIES READY`.

Policies -1: an empty server, which answers nothing at all. READY is a file that will say where it listens, and its pid.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2

from citadel.authz import MeshFacts, PathNormalization
from citadel.authz import compile as compile_policies
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.doors import AuthorizationService, Caller, Connection, Door, DoorRules, Registered
from citadel.authz.doors.over_asgi import CheckOverAsgi, ForwardedCertificate, Scope
from citadel.authz.tokens import CachedKeys, KeysUnavailable
from citadel.clock import SystemClock
from citadel.spiffe import SpiffeId, TrustDomain
from tests.bench.authorization import policies_of
from tests.bench.mend_envoy import mend

EMPTY = -1
SIZES = (1, 1_000, 10_000)
_CART = Registered(SpiffeId.parse("spiffe://td/ns/shop/sa/cart"), {"app": "cart", "version": "v1"})
_FACTS = MeshFacts(TrustDomain("td"), path_normalization=PathNormalization.DECODE_AND_MERGE_SLASHES)
_SIZE = "CITADEL_BENCH_POLICIES"


class _EverybodyIsCart:
    """As cheap as looking up who is known (doors.remote): not what is measured."""

    def __init__(self) -> None:
        self._caller = Caller("bench", (_CART,), frozenset({TrustDomain("td")}))

    async def caller(self, connection: Connection) -> Caller:
        return self._caller


async def _nowhere(url: str, *, timeout: float) -> bytes:
    raise KeysUnavailable(f"{url} is not asked here")


class _Empty:
    """The same as AuthorizationService, with nothing inside."""

    async def answer(self, message: bytes, connection: Connection) -> bytes:
        return b""


def service(size: int) -> AuthorizationService | _Empty:
    if size == EMPTY:
        return _Empty()
    policies = compile_policies(policies_of(size), _FACTS)
    clock = SystemClock()
    point = DecisionPoint(lambda: policies, clock, CachedKeys(_nowhere, clock))
    return AuthorizationService(Door(point, DoorRules()), _EverybodyIsCart())


def asked(size: int) -> list[tuple[bytes, bool]]:
    """Checks as Envoy asks them, with what is to come out; every fifth is denied."""
    step = max(1, size // 50)
    found = []
    for place, number in enumerate(list(range(0, size, step)) * (1 if size >= 5 else 5)):
        denied = place % 5 == 4
        found.append((check_message(f"n{number + denied}", f"/api/v1/items{number}/7?page=2"), not denied))
    return found


def check_message(namespace: str, path: str) -> bytes:
    http = attribute_context_pb2.AttributeContext.HttpRequest(
        id="4711",
        method="GET",
        path=path,
        host="cart.shop.svc:8080",
        scheme="http",
        protocol="HTTP/1.1",
        headers={
            ":authority": "cart.shop.svc:8080",
            ":method": "GET",
            ":path": path,
            ":scheme": "http",
            "user-agent": "curl/8",
            "accept": "*/*",
            "x-forwarded-proto": "https",
            "x-request-id": "b1c0ffee-0000-4000-8000-000000000000",
        },
    )
    message = external_auth_pb2.CheckRequest()
    message.attributes.source.principal = f"spiffe://td/ns/{namespace}/sa/caller"
    message.attributes.source.address.socket_address.address = "10.0.0.7"
    message.attributes.destination.address.socket_address.address = "10.0.0.8"
    message.attributes.destination.address.socket_address.port_value = 8080
    message.attributes.request.http.CopyFrom(http)
    serialized: bytes = message.SerializeToString()
    return serialized


async def over_grpc(size: int, ready: Path) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    served = service(size)
    handler = grpc.unary_unary_rpc_method_handler(served.answer)
    name = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Check": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _say(ready, port, os.getpid())
    await _until_ended()
    await server.stop(None)


async def over_pyvoy(size: int, ready: Path) -> None:
    mend()
    import pyvoy

    shim = ready.parent / "shim"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(f"from {__package__}.mend_envoy import mend\nmend()\n")
    env = {_SIZE: str(size), "PYTHONPATH": os.pathsep.join([str(shim), *sys.path])}
    server = pyvoy.PyvoyServer(
        "tests.bench.check_server:app",
        env=env,
        stdout=None,
        stderr=None,
        lifespan=False,
        loop="uvloop",
        additional_envoy_args=["--concurrency", "1"],  # more threads only wait for one another's interpreter
    )
    async with server:
        assert server._process is not None
        _say(ready, server.listener_port, server._process.pid)
        await _until_ended()


def _say(ready: Path, port: int, pid: int) -> None:
    new = ready.with_suffix(".new")
    new.write_text(f"127.0.0.1:{port} {pid}")
    new.rename(ready)


async def _until_ended() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


class _App:
    """What pyvoy imports in its Envoy; made there at once, so that the first check does not wait for it."""

    def __init__(self) -> None:
        size = os.environ.get(_SIZE)
        self._inner = None if size is None else CheckOverAsgi(service(int(size)), ForwardedCertificate)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        assert self._inner is not None, f"{_SIZE} is not set"
        await self._inner(scope, receive, send)


app = _App()

if __name__ == "__main__":
    _transport, _policies, _ready = sys.argv[1:]
    uvloop.run({"grpc.aio": over_grpc, "pyvoy": over_pyvoy}[_transport](int(_policies), Path(_ready)))
