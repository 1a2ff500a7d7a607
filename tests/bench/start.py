"""Start of `citadel up` on an existing directory until a waiting workload has its first secret: wall clock and CPU."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.registration import fill
from tests.bench.row import Row
from tests.support.up import Up, Workload, command, me

_TIMES = 5
_MANY = 20_000
_NAME = "spiffe://example.org/web"


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        return [*_measure(Path(folder) / "few", 0), *_measure(Path(folder) / "many", _MANY)]


def _measure(home: Path, others: int) -> list[Row]:
    up = Up(home)
    up.start()
    up.register("/web", me())
    fill(up.admin_socket, others)
    up.end()
    _start(up)  # compiles
    walls, cpus, bare = [], [], []
    for _ in range(_TIMES):
        bare.append(_bare())
        wall, cpu = _start(up)
        walls.append(wall)
        cpus.append(cpu)
    name = f"citadel up to the first secret, {others + 1} entries"
    wall = statistics.median(walls)
    return [
        Row(name, wall, "s", statistics.median(bare), "s to import what it uses", "under 2 s", wall < 2),
        Row(f"{name}: CPU time", statistics.median(cpus), "s"),
    ]


def _start(up: Up) -> tuple[float, float]:
    """Seconds, of the wall clock and of CPU, from the program's start to the first secret."""
    began = time.perf_counter()
    with up.log.open("ab") as sink:
        process = subprocess.Popen(command("up", "--config", up.config), env=_environment(up), stdout=sink, stderr=sink)
    try:
        while not _listening(up.workload_socket):
            time.sleep(0.002)
        with Workload(up.workload_socket, _NAME) as workload:
            while _NAME not in workload.take():
                pass
            return time.perf_counter() - began, cpu_seconds(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def _environment(up: Up) -> dict[str, str]:
    """Compiled files are kept, as an installed program's are, whatever the bench was told."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | up.env | {"PYTHONPYCACHEPREFIX": str(up.home / "pyc")}


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as knocker:
        return knocker.connect_ex(str(path)) == 0


def cpu_seconds(pid: int) -> float:
    """What a process has used up to now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bare() -> float:
    """What starting any program costs that uses the same libraries."""
    began = time.perf_counter()
    libraries = "import grpc.aio, sqlalchemy.ext.asyncio, sqlmodel, alembic.command, cryptography.x509, apscheduler"
    subprocess.run([sys.executable, "-c", libraries], check=True)
    return time.perf_counter() - began
