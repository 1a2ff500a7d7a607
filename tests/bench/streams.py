"""10,000 SDS streams on 5,000 connections: memory, and a new bundle to all; with the attesting relay, without it, and
beside grpc.aio alone in the same run. Server and clients are processes of their own.

CPU seconds are the server's. Streams carry what Envoy sends, a node of 61 kB included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.row import Row

CONNECTIONS = 5_000
_DESCRIPTORS_EACH, _DESCRIPTORS_KEPT = 5, 500  # of the relay
_PATIENCE = 180.0  # seconds; then its process is ended
_ROUNDS = 3


@dataclass(frozen=True)
class Figures:
    kib: float  # a stream
    serve_cpu: float  # seconds until all streams were served
    wall: float  # seconds from a new bundle to the last acknowledgement, the best of three
    cpu: float


def rows() -> list[Row]:
    alone = measure("bare", CONNECTIONS)
    return [
        *_rows("without relay", CONNECTIONS, measure("direct", CONNECTIONS), alone, goal=True),
        *_rows("with relay", _relayed(), measure("relay", _relayed()), alone, goal=False),
    ]


def _relayed() -> int:
    """The connections that the relay can hold here: descriptors are limited, and not everybody may raise the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, (most - _DESCRIPTORS_KEPT) // _DESCRIPTORS_EACH)


def _rows(how: str, connections: int, ours: Figures, alone: Figures, *, goal: bool) -> list[Row]:
    name, reference = f"{2 * connections:,} SDS streams {how}", "grpc.aio alone"
    memory = ("under 40", ours.kib < 40) if goal else ("", None)
    return [
        Row(f"{name}: memory", ours.kib, "KiB a stream", alone.kib, reference, *memory),
        Row(f"{name}: all served", ours.serve_cpu, "CPU s", alone.serve_cpu, reference),
        Row(f"{name}: new bundle acknowledged by all", ours.wall, "s", alone.wall, reference, "under 2", ours.wall < 2),
        Row(f"{name}: new bundle", ours.cpu, "CPU s", alone.cpu, reference),
    ]


def measure(mode: str, connections: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="cb-", dir="/tmp") as folder:
        (Path(folder) / "d").mkdir(mode=0o700)
        with _process("stream_server", mode, f"{folder}/d") as server:
            ready = _line(server)
            with _process("stream_client", ready["ready"], str(connections)) as client:
                streams = 2 * connections
                served = _asked(server, f"acks {streams}")
                _round(client, 1)
                news = []
                for number in range(_ROUNDS):
                    news.append(_asked(server, f"bundle {streams}"))
                    if mode != "bare" or number == 0:
                        _round(client, number + 2)
                best = min(news, key=lambda one: float(one["wall"]))
                kib = (served["memory"] - ready["memory"]) / streams / 1024
                return Figures(kib, served["cpu"], best["wall"], best["cpu"])


def _asked(server: subprocess.Popen[str], what: str) -> dict[str, Any]:
    assert server.stdin is not None
    server.stdin.write(what + "\n")
    server.stdin.flush()
    return _line(server)


def _round(client: subprocess.Popen[str], number: int) -> None:
    """Every stream has had that many answers, and none was lost."""
    found = _line(client)
    if found.get("round") != number:
        raise RuntimeError(f"expected every stream to have {number} answers: {found}")


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        raise RuntimeError(f"{process.args!r} ended")
    found: dict[str, Any] = json.loads(text)
    return found


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = threading.Timer(_PATIENCE, process.kill)
    watch.start()
    try:
        yield process
    finally:
        watch.cancel()
        process.kill()
        process.communicate()
