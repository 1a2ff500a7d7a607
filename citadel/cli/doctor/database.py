"""The doctor looks at the database without changing it: can it be reached, is it whole, may we write to it?"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from citadel.cli.doctor.findings import Finding, fail, ok, skip
from citadel.config import Settings, database_url

_PATIENCE = 5.0  # seconds


def database(settings: Settings, env: Mapping[str, str], *, running: bool) -> Iterator[Finding]:
    """The one that is configured. Raises what database_url raises: a password that cannot be read."""
    path = _sqlite_path(settings, env)
    if path is not None:
        yield from _sqlite(path, settings.data_dir / "database-id", running)
    else:
        url = urlsplit(database_url(settings, env).get_secret_value())
        folder = parse_qs(url.query).get("host", [""])[0]
        yield _postgresql(folder or url.hostname or "localhost", url.port or 5432)


def _sqlite(path: Path, remembered: Path, running: bool) -> Iterator[Finding]:
    if not path.exists() and remembered.exists():
        yield fail(
            "store.database",
            f"{path} is not there, and {remembered} remembers one: Citadel does not start without it",
            f"mount or restore it; to begin anew, with a root that nobody trusts yet, remove {remembered}",
        )
        return
    if not path.exists():
        yield skip("store.database", f"{path} is not there yet: 'citadel up' makes it")
        return
    for file in (path, *path.parent.glob(path.name + "-*")):
        if file.stat().st_mode & 0o077:
            yield fail("store.database", f"others may read {file}", f"run: chmod 600 {file}")
        if not os.access(file, os.R_OK | os.W_OK):
            yield fail("store.database", f"uid {os.geteuid()} may not write to {file}", "run as the user that owns it")
            return
    yield _whole(path, running)


def _whole(path: Path, running: bool) -> Finding:
    """SQLite's own check of pages and indexes. Read-only; of a database that is in use it sees a snapshot.
    Run by root, SQLite gives what files it makes beside the database to the database's owner."""
    place = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(place, uri=True, timeout=_PATIENCE)) as connection:
            result = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return _locked(path, running)
        return fail("store.database", f"{path} cannot be opened: {error}", "restore it from a backup")
    except sqlite3.DatabaseError as error:
        return fail("store.database", f"{path} is damaged: {error}", "stop Citadel, and restore it from a backup")
    if result != ["ok"]:
        return fail("store.database", f"{path} is damaged: {'; '.join(result)}", "stop Citadel, and restore a backup")
    return ok("store.database", f"{path} is whole{' and in use' if running else ''}")


def sealed_under(settings: Settings, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """What private keys in an SQLite database are sealed under: (id of the key-encryption key, of what). Empty if it
    cannot be looked at, which `database` tells."""
    path = _sqlite_path(settings, env)
    if path is None or not path.exists():
        return []
    place = f"file:{quote(str(path))}?mode=ro"
    found: list[tuple[str, str]] = []
    try:
        with closing(sqlite3.connect(place, uri=True, timeout=_PATIENCE)) as connection:
            for table, what in (("keys", "authorities"), ("audit_keys", "the audit log")):
                rows = connection.execute(f"SELECT DISTINCT kek_id FROM {table}")  # noqa: S608  # one of the two above
                found += [(str(row[0]), what) for row in rows]
    except sqlite3.Error:  # in use, damaged, or older than these tables
        return []
    return found


def _sqlite_path(settings: Settings, env: Mapping[str, str]) -> Path | None:
    url = urlsplit(database_url(settings, env).get_secret_value())
    if url.scheme != "sqlite":
        return None
    return Path(url.path.removeprefix("/") if url.path.startswith("//") else url.path)


def _locked(path: Path, running: bool) -> Finding:
    if running:
        return ok("store.database", f"{path} is in use by the running Citadel")
    return fail("store.database", f"{path} is locked by another process", "stop what else uses it")


def _postgresql(host: str, port: int) -> Finding:
    """Only whether it takes connections: signing in is the store's business, and status tells how that goes."""
    local = host.startswith("/")  # libpq: a folder with a socket in it
    where = f"{host}/.s.PGSQL.{port}" if local else f"{host}:{port}"
    try:
        with socket.socket(socket.AF_UNIX) if local else socket.create_connection((host, port), _PATIENCE) as client:
            if local:
                client.settimeout(_PATIENCE)
                client.connect(where)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        mend = "start it, or mend the network; store.url says where it is looked for"
        return fail("store.database", f"PostgreSQL at {where} cannot be reached: {reason}", mend)
    return ok("store.database", f"PostgreSQL at {where} takes connections")
