"""A throw-away PostgreSQL server for tests: Debian's binaries, a temporary directory, a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

_WAIT = "60"


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl, the newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]), reverse=True)
    return found[0].parent if found else None


@contextmanager
def server() -> Iterator[str]:
    """A running server; its URL. Skips the test if PostgreSQL is not installed."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    home = Path(tempfile.mkdtemp(prefix="citadel-pg-"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(home, "postgres")
    control = [*as_user, str(folder / "pg_ctl"), "-D", str(home / "data"), "-w", "-t", _WAIT]
    try:
        initdb = [str(folder / "initdb"), "-D", str(home / "data"), "-A", "trust", "-U", "citadel", "-E", "UTF8"]
        _run([*as_user, *initdb])
        options = f"-c listen_addresses='' -c unix_socket_directories={home}"
        _run([*control, "-l", str(home / "log"), "-o", options, "start"])
        yield f"postgresql://citadel@/postgres?host={home}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
        shutil.rmtree(home, ignore_errors=True)


async def new_database(server_url: str) -> str:
    """An empty database on a running server; its URL."""
    base = make_url(server_url).set(drivername="postgresql+asyncpg")
    name = f"t{uuid4().hex}"
    engine = create_async_engine(base, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return base.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-1000:]}")
