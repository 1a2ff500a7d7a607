"""Issuance over gRPC: `citadel up` in a process of its own, asked over its admin socket.

Certificates per CPU second of the server, beside bare pyca in the same run; the client's CPU is its own.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import grpc
import uvloop

from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2, entry_pb2_grpc
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.ca.issuer import IssueRequest
from tests.bench.issuance import bare_per_cpu_second
from tests.bench.row import Row
from tests.bench.start import cpu_seconds
from tests.support.issuance import WEB, make_chain, make_csr
from tests.support.up import me, running

_CALLS_AT_ONCE = 64
_CERTIFICATES = 1500
_ROUNDS = 5
_A_CALL = 50

#: Asks for some certificates; how many came.
_Ask = Callable[[int], Awaitable[int]]


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder, running(Path(folder) / "d") as up:
        up.register("/web", me())
        return uvloop.run(_rows(up.admin_socket, up.process.pid))


async def _rows(socket: Path, pid: int) -> list[Row]:
    csrs = [make_csr() for _ in range(200)]
    chain = await make_chain(now=datetime.now(UTC))
    requests = [IssueRequest(WEB, "", csr, "bench") for csr in csrs]
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        svids = svid_pb2_grpc.SVIDStub(channel)
        [entry] = (await entry_pb2_grpc.EntryStub(channel).ListEntries(entry_pb2.ListEntriesRequest())).entries

        async def one(number: int) -> int:
            await svids.MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=csrs[number % len(csrs)]))
            return 1

        async def many(number: int) -> int:
            chosen = [csrs[(number + n) % len(csrs)] for n in range(_A_CALL)]
            params = [svid_pb2.NewX509SVIDParams(entry_id=entry.id, csr=csr) for csr in chosen]
            answer = await svids.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=params))
            assert not any(result.status.code for result in answer.results), answer.results[0].status
            return len(answer.results)

        measured: dict[str, list[tuple[float, float]]] = {}
        for name, ask, a_call in (("one a call", one, 1), (f"{_A_CALL} a call", many, _A_CALL)):
            await _certificates(ask, a_call, pid)
            for _ in range(_ROUNDS):
                bare = bare_per_cpu_second(chain, requests)
                measured.setdefault(name, []).append((await _certificates(ask, a_call, pid), bare))
        return [_row(name, pairs) for name, pairs in measured.items()]


def _row(name: str, pairs: Sequence[tuple[float, float]]) -> Row:
    reference = statistics.median(bare for _, bare in pairs)
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    return Row(f"issuance over gRPC, {name}", ratio * reference, "certificates per CPU second", reference, "bare pyca")


async def _certificates(ask: _Ask, a_call: int, pid: int) -> float:
    numbers = iter(range(_CERTIFICATES // a_call))
    got = 0

    async def client() -> None:
        nonlocal got
        for number in numbers:
            came = await ask(number)
            got += came

    before = cpu_seconds(pid)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(_CALLS_AT_ONCE, max(4, _CALLS_AT_ONCE // a_call))):
            group.create_task(client())
    return got / (cpu_seconds(pid) - before)
