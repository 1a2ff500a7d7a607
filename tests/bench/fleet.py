"""A rotation seen by 10,000 SDS clients in process, each acknowledging with its own delay, 1 % rejecting, 1 % silent.

`citadel up` whole, its streams without sockets: requests and answers are handed over as the bytes of the wire.
What gRPC costs on top, the bench `streams` measures. Runs in a process of its own, for its memory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import uvloop
from envoy.service.discovery.v3 import discovery_pb2
from sqlalchemy import event, text

from citadel import agent, config, server
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.ca.rotation.commands import Wish
from citadel.cli.process import collect_seldom, settle_memory
from citadel.clock import SystemClock
from citadel.registry import Entry, Selector
from citadel.sds.ports import Unwatched
from citadel.sds.stream import SECRET_TYPE
from citadel.spiffe import SpiffeId
from citadel.telemetry import logging
from citadel.workload.peer import Peer, PeerTable
from tests.bench.row import Row

CLIENTS = 10_000
REISSUE_PER_SECOND = 500
_SLOWEST = 2.0  # seconds that an answer takes, at most
_PATIENCE = 180.0
_SETTINGS = """
trust_domain = "example.org"
data_dir = "{folder}"
[http]
address = ""
[log]
level = "error"
[attestors.systemd]
enabled = false
[attestors.docker]
enabled = false
[sockets.workload]
quota_streams_per_uid = 100000
[rotation]
reconnect_window = "100ms"
reissue_per_second = {rate}
"""


@dataclass(frozen=True)
class Figures:
    """Of `clients`, in seconds; `rows`: of the table of clients, written."""

    clients: int
    joined_cpu: float
    acknowledged: float
    acknowledged_cpu: float
    bundle_rows: int
    bundle_transactions: int
    reissued: float
    reissued_cpu: float
    leaf_rows: int
    mib: float


def rows() -> list[Row]:
    found = Figures(**json.loads(subprocess.run(
        [sys.executable, "-m", "tests.bench.fleet", str(CLIENTS)], check=True, stdout=subprocess.PIPE, timeout=900
    ).stdout))  # fmt: skip
    name = f"{found.clients:,} SDS clients in a rotation"
    a_client = found.bundle_rows / found.clients
    expected = found.clients / REISSUE_PER_SECOND
    return [
        Row(f"{name}: all served and on record", found.joined_cpu, "CPU s"),
        Row(f"{name}: new root to all that can acknowledged, on record", found.acknowledged, "s", _SLOWEST,
            "s that the slowest takes", "under 5", found.acknowledged < 5),
        Row(f"{name}: the same", found.acknowledged_cpu, "CPU s"),
        Row(f"{name}: rows written a client for it", a_client, "", goal="at most 1", met=a_client <= 1),
        Row(f"{name}: transactions for it", found.bundle_transactions, ""),
        Row(f"{name}: all leaves reissued and acknowledged, at {REISSUE_PER_SECOND}/s", found.reissued, "s", expected,
            "s at that rate"),
        Row(f"{name}: the same, keys and clients included", found.reissued_cpu / found.clients * 1000, "CPU ms a leaf"),
        Row(f"{name}: rows written a client for it", found.leaf_rows / found.clients, ""),
        Row(f"{name}: memory at its peak, keys and clients included", found.mib, "MiB"),
    ]  # fmt: skip


class FleetPeer(Peer):
    """One of very many processes that there are not."""

    def alive(self) -> bool:
        return True

    def same_process(self) -> bool:
        return True


class FleetTable(PeerTable):
    """`fleet:N` is the process N, of the user N."""

    def lookup(self, name: str) -> Peer:
        number = int(name.removeprefix("fleet:"))
        return FleetPeer(number, number, number, -1, 1)


class FleetCensus(Unwatched):
    """Contract: workload.census.Census. There are no processes whose end could be noticed."""

    def __init__(self, *_: Any) -> None: ...

    def remember(self, clients: Sequence[str]) -> None: ...

    def close(self) -> None: ...


class FleetAttestors:
    """Contract: workload.attestors.Attestors."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def attest(self, peer: Peer, **_: Any) -> frozenset[Selector]:
        return frozenset({_selector(peer.uid)})


def _selector(number: int) -> Selector:
    return Selector("unix", f"uid:{number}")


class Stream:
    """One SDS stream of a client, as grpc.aio's context of it. `answers(response)`: None for silence, else what a
    rejection says, or an empty text."""

    def __init__(
        self, client: int, resource: str, delay: float, answers: Callable[[discovery_pb2.DiscoveryResponse], str | None]
    ) -> None:
        self._client = client
        self._resource = resource
        self._delay = delay
        self._answers = answers
        self._accepted = ""
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.read_request: Callable[[bytes], Any] = bytes
        first = discovery_pb2.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=[resource])
        first.node.id = f"e{client}"
        self._requests.put_nowait(first.SerializeToString())

    def peer(self) -> str:
        return f"fleet:{self._client}"

    async def read(self) -> Any:
        raw = await self._requests.get()
        return None if raw is None else self.read_request(raw)

    async def write(self, raw: bytes) -> None:
        response = discovery_pb2.DiscoveryResponse.FromString(raw)
        fault = self._answers(response)
        if fault is None:
            return
        if not fault:
            self._accepted = response.version_info
        answer = discovery_pb2.DiscoveryRequest(
            type_url=SECRET_TYPE,
            resource_names=[self._resource],
            version_info=self._accepted,
            response_nonce=response.nonce,
        )
        if fault:
            answer.error_detail.code, answer.error_detail.message = 13, fault
        asyncio.get_running_loop().call_later(self._delay, self._requests.put_nowait, answer.SerializeToString())

    def close(self) -> None:
        self._requests.put_nowait(None)

    async def abort(self, code: Any, details: str) -> None:
        raise AssertionError(f"the service ended a stream: {code} {details}")


class Fleet:
    """Two streams each: the bundle's and the leaf's. One in a hundred rejects a second bundle, one is silent to it."""

    def __init__(self, count: int) -> None:
        chance = random.Random(7)
        self.can = [n for n in range(count) if n % 100 not in (0, 1)]
        self._bundles = [0] * count
        self.streams = [
            Stream(n, name, chance.uniform(0, _SLOWEST), self._bundle_answers(n) if name == "ROOTCA" else _accepts)
            for n in range(count)
            for name in ("ROOTCA", "default")
        ]

    def _bundle_answers(self, number: int) -> Callable[[discovery_pb2.DiscoveryResponse], str | None]:
        def answers(_: discovery_pb2.DiscoveryResponse) -> str | None:
            self._bundles[number] += 1
            if self._bundles[number] == 1 or number % 100 not in (0, 1):
                return ""
            return None if number % 100 else "no more than one root, please"

        return answers


def _accepts(_: discovery_pb2.DiscoveryResponse) -> str:
    return ""


@asynccontextmanager
async def _served(up: server.Server, streams: Sequence[Stream]) -> AsyncIterator[None]:
    assert up.node is not None
    handlers: list[Any] = []
    up.node.service.add_to(mock.Mock(add_generic_rpc_handlers=lambda found: handlers.extend(found)))
    details = mock.Mock(method="/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
    (method,) = [found for one in handlers if (found := one.service(details)) is not None]
    tasks = []
    for stream in streams:
        stream.read_request = method.request_deserializer
        tasks.append(asyncio.create_task(method.stream_stream(None, stream)))
    try:
        yield
    finally:
        for stream in streams:
            stream.close()
        await asyncio.gather(*tasks)


class Written:
    """Counts what is written into the table of clients."""

    def __init__(self, up: server.Server) -> None:
        self.rows = self.transactions = self.executed = 0
        engine = up.store.clients._ledger.engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._executing)

    def _executing(self, _: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if statement.startswith(("INSERT INTO clients", "UPDATE clients")):
            self.rows += len(parameters) if many else 1
            self.executed += 1
        elif statement.startswith("SELECT") and "FROM clients" in statement and "IN (" in statement:
            self.transactions += 1


_SERVED = "SELECT count(*) FROM clients WHERE resource = :r AND json_extract(body, '$.acked_version') <> ''"
_HOLDING = "SELECT count(*) FROM clients WHERE resource = :r AND json_extract(body, '$.sequence') >= :v"
_UNDER = "SELECT count(*) FROM clients WHERE resource = :r AND json_extract(body, '$.authority') = :v"


async def _until(
    up: server.Server, written: Written, wanted: int, query: str, resource: str, value: object = None
) -> None:
    """What is on record counts: asks the database, each time that something was written."""
    ledger = up.store.clients._ledger
    values = {"r": resource} if value is None else {"r": resource, "v": value}
    seen = -1
    async with asyncio.timeout(_PATIENCE):
        while True:
            while seen == written.executed:
                await asyncio.sleep(0.05)
            seen = written.executed
            async with ledger.reading() as transaction:
                row = await transaction.first(text(query).bindparams(**values))
            if row is not None and row[0] >= wanted:
                return


async def measure(count: int, folder: Path) -> Figures:
    async with server.up(_settings(folder), SystemClock()) as up:
        await up.registry.create([_entry(up, number) for number in range(count)], "bench")
        await up.directory.loaded()
        settle_memory()
        fleet, written = Fleet(count), Written(up)
        cpu = time.process_time()
        async with _served(up, fleet.streams):
            await _until(up, written, count, _SERVED, "default")
            await _until(up, written, count, _SERVED, "ROOTCA")
            joined = time.process_time() - cpu
            written.rows = written.transactions = 0
            sequence = await _sequence(up)
            wall, cpu = time.monotonic(), time.process_time()
            await up.rotations.prepare(Wish("bench"), auto=False)
            await _until(up, written, len(fleet.can), _HOLDING, "ROOTCA", sequence + 1)
            acknowledged, acknowledged_cpu = time.monotonic() - wall, time.process_time() - cpu
            await asyncio.sleep(3)  # what was only sent is written, too
            bundle_rows, bundle_transactions = written.rows, written.transactions
            written.rows = 0
            wall, cpu = time.monotonic(), time.process_time()
            await up.rotations.activate(Wish("bench", force=True))
            (signing,) = [one.skid.hex for one in await up.store.authorities.authorities() if _signs(one)]
            await _until(up, written, count, _UNDER, "default", signing)
            reissued, reissued_cpu = time.monotonic() - wall, time.process_time() - cpu
        return Figures(
            count, joined, acknowledged, acknowledged_cpu, bundle_rows, bundle_transactions,
            reissued, reissued_cpu, written.rows, _peak() / 2**20,
        )  # fmt: skip


def _signs(one: Authority) -> bool:
    return one.kind is AuthorityKind.ISSUING and one.state is AuthorityState.ACTIVE


async def _sequence(up: server.Server) -> int:
    bundle = await up.store.authorities.bundle(up.settings.trust_domain)
    assert bundle is not None
    return bundle.sequence


def _settings(folder: Path) -> config.Settings:
    file = folder / "citadel.toml"
    file.write_text(_SETTINGS.format(folder=folder, rate=REISSUE_PER_SECOND))
    (folder / "keys").mkdir(mode=0o700)
    (folder / "keys" / "kek").write_bytes(base64.b64encode(os.urandom(32)))
    (folder / "keys" / "kek").chmod(0o600)
    return config.load(file, {})


def _entry(up: server.Server, number: int) -> Entry:
    path = SpiffeId.of(up.settings.trust_domain, "fleet", f"w{number}")
    return Entry("", path, up.node_id, frozenset({_selector(number)}), x509_ttl=timedelta(hours=1))


def _peak() -> int:
    """Bytes that were resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int) -> None:
    collect_seldom()
    logging.configure("error", "json")
    with (
        tempfile.TemporaryDirectory(prefix="cb-", dir="/tmp") as folder,
        mock.patch.object(agent, "PeerTable", FleetTable),
        mock.patch.object(agent, "Attestors", FleetAttestors),
        mock.patch.object(agent, "Census", FleetCensus),
    ):
        home = Path(folder) / "d"
        home.mkdir(mode=0o700)
        print(json.dumps(asdict(uvloop.run(measure(count, home)))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
