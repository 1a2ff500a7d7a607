"""Snapshots of a SQLite store: taken while a server writes to it, and looked through without one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from citadel.audit import AuditKey, ChainReport, Checkpoint, Kind
from citadel.audit.verify import ChainWalk, Trust
from citadel.errors import FailedPrecondition, NewerDatabase, NotFound
from citadel.store import engine as engines
from citadel.store.faults import our_errors, translate

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds. `audit`: the last sequence number of each writer's chain."""

    trust_domain: str
    database_id: str
    revision: str
    bundle_sequence: int
    serials: int
    entries: int
    keks: tuple[str, ...]
    audit: dict[str, int]


class _Line(NamedTuple):
    sequence: int
    hash: bytes
    body: bytes


def take(database: Path, target: Path, *, timeout: float) -> None:
    """Copy the database to the new file `target` (mode 0600), as it is at one moment, whoever writes to it meanwhile.

    Raises NotFound, Unavailable, FailedPrecondition, PermissionDenied.
    """
    if not database.exists():
        raise NotFound(f"there is no database {database}", mend="check data_dir and store.url")
    with our_errors(str(target)):
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with _errors(database), closing(_writer(database, timeout)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)  # in one step: one state
        copy.execute("PRAGMA journal_mode=DELETE")  # one file


def contents(database: Path) -> Contents:
    """Raises FailedPrecondition if it is corrupt, or not Citadel's; NewerDatabase."""
    with _errors(database), closing(_reader(database)) as reader:
        _refuse_programs(reader)
        verdict = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise FailedPrecondition(f"the database is corrupt ({verdict})", mend="take another backup")
        revision = str(reader.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        if revision > engines.newest_revision():
            raise NewerDatabase(
                f"the database has the revision {revision}, newer than ours", mend="use a newer Citadel"
            )
        meta = dict(reader.execute("SELECT key, value FROM meta"))
        domain = meta.get("trust_domain", "")
        sequence = reader.execute("SELECT sequence FROM bundles WHERE trust_domain = ?", (domain,)).fetchone()
        keks = reader.execute("SELECT kek_id FROM keys UNION SELECT kek_id FROM audit_keys ORDER BY 1")
        chains = dict(reader.execute("SELECT writer, max(sequence) FROM audit GROUP BY writer"))
        pruned = dict(reader.execute("SELECT writer, max(sequence) FROM audit_checkpoints WHERE base GROUP BY writer"))
        return Contents(
            domain,
            meta.get("database_id", ""),
            revision,
            sequence[0] if sequence else 0,
            reader.execute("SELECT count(*) FROM issuances").fetchone()[0],
            reader.execute("SELECT count(*) FROM entries").fetchone()[0],
            tuple(row[0] for row in keks),
            {writer: max(chains.get(writer, 0), pruned.get(writer, 0)) for writer in {*chains, *pruned}},
        )


def verify_audit(database: Path) -> list[ChainReport]:
    """Walk every chain. The keys that count are those in the database: who could alter it as a whole could alter them,
    so what this proves, it proves of a copy whose origin is known. Raises FailedPrecondition."""
    with _errors(database), closing(_reader(database)) as reader:
        trust = Trust(AuditKey(bytes(row[0])) for row in reader.execute("SELECT public FROM audit_keys"))
        writers = [
            row[0] for row in reader.execute("SELECT writer FROM audit UNION SELECT writer FROM audit_checkpoints")
        ]
        return [_chain(reader, writer, trust) for writer in sorted(writers)]


def _chain(reader: sqlite3.Connection, writer: str, trust: Trust) -> ChainReport:
    kept = reader.execute(
        "SELECT base, writer, sequence, CAST(hash AS BLOB), at, key_id, CAST(signature AS BLOB) FROM audit_checkpoints"
        " WHERE writer = ? ORDER BY number",
        (writer,),
    )
    checkpoints = [Checkpoint(Kind.BASE if row[0] else Kind.TIP, *row[1:]) for row in kept]
    walk = ChainWalk(writer, checkpoints, trust)
    lines = reader.execute(
        "SELECT sequence, CAST(hash AS BLOB), CAST(body AS BLOB) FROM audit"
        " WHERE writer = ? AND sequence > ? ORDER BY sequence",
        (writer, walk.at),
    )
    while page := lines.fetchmany(_PAGE):
        for row in page:
            walk.feed(_Line(*row))
    return walk.report()


def _refuse_programs(reader: sqlite3.Connection) -> None:
    """Ours has tables and indices alone; what somebody else made may run as long as they like."""
    found = reader.execute(
        "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL %' LIMIT 1"
    ).fetchone()
    if found:
        raise FailedPrecondition(
            f"the database is not one of Citadel's: it has {str(found[0])[:80]!r}, which is no table",
            mend="take another backup",
        )


def _writer(database: Path, timeout: float) -> sqlite3.Connection:
    """Writes nothing; but who may not write leaves SQLite's -wal and -shm behind where no server runs."""
    return sqlite3.connect(f"file:{quote(str(database))}?mode=rw", uri=True, timeout=timeout)


def _reader(database: Path) -> sqlite3.Connection:
    reader = sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)
    reader.execute("PRAGMA trusted_schema=OFF")  # somebody else may have made it
    return reader


@contextmanager
def _errors(database: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, str(database)) from error


__all__ = ["Contents", "contents", "take", "verify_audit"]
