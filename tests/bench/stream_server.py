"""The server of the streams bench, in a process of its own: `citadel up` whole, or grpc.aio alone for reference.

`python -m tests.bench.stream_server MODE FOLDER`, MODE one of `relay`, `direct` (without the attesting relay: clients
come straight to gRPC's socket) and `bare`. It says `{"ready": socket}`, and answers each line on its standard input:
`acks N` once N acknowledgements have come, `bundle N` by publishing a new bundle and waiting for N more.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import uvloop
from envoy.service.discovery.v3 import discovery_pb2

from citadel import agent, config, server
from citadel.audit import AuditEvent
from citadel.clock import SystemClock
from citadel.errors import InternalFault
from citadel.registry import Entry, Selector
from citadel.sds.service import SERVER_OPTIONS
from citadel.spiffe import SpiffeId
from citadel.telemetry import logging
from citadel.workload.peer import Peer, PeerTable, peer_of
from tests.support.cacerts import make_ca

Publish = Callable[[], Awaitable[None]]
Acks = Callable[[], int]
DOMAIN = "example.org"
SETTINGS = f"""
trust_domain = "{DOMAIN}"
data_dir = "{{folder}}"
[http]
address = ""
[log]
level = "warning"
[attestors.systemd]
enabled = false
[attestors.docker]
enabled = false
[sockets.workload]
quota_connections_per_uid = 100000
quota_streams_per_uid = 100000
max_connections = 100000
"""


def _myself() -> Peer:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        return peer_of(ours)


_MYSELF = _myself()


class AnybodyTable(PeerTable):
    """Whoever comes is this very process: for clients that do not come by the relay."""

    def lookup(self, name: str) -> Peer:
        return _MYSELF


async def citadel(mode: str, folder: Path, serve: Callable[[str, Acks, Publish], Awaitable[None]]) -> None:
    file = folder / "citadel.toml"
    file.write_text(SETTINGS.format(folder=folder))
    (folder / "keys").mkdir(mode=0o700)
    (folder / "keys" / "kek").write_bytes(base64.b64encode(os.urandom(32)))
    (folder / "keys" / "kek").chmod(0o600)
    settings = config.load(file, {})
    logging.configure("warning", "json")
    table = AnybodyTable if mode == "direct" else PeerTable
    with mock.patch.object(agent, "PeerTable", table):
        async with server.up(settings, SystemClock()) as up:
            await up.registry.create([_entry(up)], "bench")
            domain = settings.trust_domain

            def acks() -> int:
                value = up.metrics.registry.get_sample_value("citadel_sds_responses_total", {"kind": "ack"})
                return int(value or 0)

            async def publish() -> None:
                present = await up.store.authorities.bundle(domain)
                if present is None:
                    raise InternalFault("there is no bundle")
                roots = (*present.roots, make_ca(f"another {present.sequence}").der)
                new = replace(present, roots=roots, sequence=present.sequence + 1)
                event = AuditEvent(up.clock.now(), "bench", "bundle.publish", domain.id.uri, {})
                await up.store.authorities.put_bundle(new, event)

            path = settings.sockets.workload.path
            if mode == "direct":
                path = path.parent / ".private" / "workload.sock"
            await serve(str(path), acks, publish)


def _entry(up: server.Server) -> Entry:
    return Entry(
        id="",
        spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}/bench"),
        parent_id=up.node_id,
        selectors=frozenset({Selector("unix", f"uid:{os.getuid()}")}),
        x509_ttl=timedelta(hours=1),
    )


async def bare(folder: Path, serve: Callable[[str, Acks, Publish], Awaitable[None]]) -> None:
    """What grpc.aio takes for the same conversation when nothing is done about it."""
    count = 0
    waiting: list[asyncio.Future[bytes]] = []
    content = b"x" * 1500

    def say(number: int) -> bytes:
        answer = discovery_pb2.DiscoveryResponse(version_info=str(number), nonce=str(number))
        answer.resources.add(value=content)
        raw: bytes = answer.SerializeToString()
        return raw

    async def stream(_: Any, context: Any) -> None:
        nonlocal count
        await context.read()
        news = say(0)
        while True:
            await context.write(news)
            if not isinstance(await context.read(), bytes):
                return
            count += 1
            waiting.append(asyncio.get_running_loop().create_future())
            news = await waiting[-1]

    async def publish() -> None:
        nonlocal waiting
        told, waiting = waiting, []
        news = say(1)
        for future in told:
            future.set_result(news)

    one = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(stream)
    service = "envoy.service.secret.v3.SecretDiscoveryService"
    one.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"StreamSecrets": handler}),))
    one.add_insecure_port(f"unix:{folder}/bare.sock")
    await one.start()
    await serve(f"{folder}/bare.sock", lambda: count, publish)
    await one.stop(None)


def memory() -> int:
    """Bytes resident."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise InternalFault("the kernel does not say")


async def serve(path: str, acks: Acks, publish: Publish) -> None:
    def tell(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await asyncio.sleep(1)
    tell(ready=path, memory=memory())
    while line := (await reader.readline()).decode().split():
        wanted = int(line[1])
        wall, cpu = time.monotonic(), time.process_time()
        if line[0] == "bundle":
            wanted += acks()
            await publish()
        while acks() < wanted:
            await asyncio.sleep(0.02)
        facts = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
        await asyncio.sleep(2)
        tell(**facts, memory=memory())


async def main(mode: str, folder: Path) -> None:
    if mode == "bare":
        await bare(folder, serve)
    else:
        await citadel(mode, folder, serve)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
