"""A throw-away PostgreSQL server for tests: Debian's binaries, a temporary directory, a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class Server:
    """One that can be stopped, as by a failing machine, and started again. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = Path(tempfile.mkdtemp(prefix="citadel-pg-"))
        self.url = f"postgresql://citadel@/postgres?host={self.home}"
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(self.home, "postgres")

    def __enter__(self) -> Server:
        initdb = [str(self._folder / "initdb"), "-D", str(self.home / "data"), "-A", "trust"]
        _run([*self._as_user, *initdb, "-U", "citadel", "-E", "UTF8"])
        self.start()
        return self

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.home}"
        self.control("-l", str(self.home / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as if it had been killed; it recovers at the next start."""
        self.control("-m", mode, "stop")

    def require_password(self, user: str) -> None:
        rules = self.home / "data" / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n" + rules.read_text())
        self.control("reload")

    def control(self, *arguments: str) -> None:
        control = [str(self._folder / "pg_ctl"), "-D", str(self.home / "data"), "-w", "-t", _WAIT]
        _run([*self._as_user, *control, *arguments])

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(RuntimeError):  # it does not run
                self.stop()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


def installed() -> Server:
    """One that is not started yet. Skips the test if PostgreSQL is not installed."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    return Server(folder)


@contextmanager
def server() -> Iterator[str]:
    """A running server; its URL. Skips the test if PostgreSQL is not installed."""
    with installed() as running:
        yield running.url


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
