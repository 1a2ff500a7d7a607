"""Makes and reads back backups: a snapshot of the store, its manifest, both sealed into one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import BinaryIO

from citadel import __version__
from citadel.audit import ChainReport
from citadel.backup import scratch
from citadel.backup.container import open_container, seal_container
from citadel.backup.manifest import Manifest, split
from citadel.backup.origin import Seal, proved
from citadel.backup.recipients import Opener, Recipient
from citadel.durable import sync_folder
from citadel.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from citadel.store import snapshot

_PIECE = 1 << 20
_WHO = "run this as Citadel's user, or check data_dir"


@dataclass(frozen=True, slots=True)
class Verified:
    """A backup that opened, is whole, and holds what it says."""

    manifest: Manifest
    chains: Sequence[ChainReport]
    origin_told: bool  # by the passphrase; else origin.refuse_unproved is to be asked

    @property
    def faults(self) -> list[str]:
        return [f"{chain.writer}: {fault}" for chain in self.chains for fault in chain.faults]


def create(
    database: Path,
    target: Path,
    recipients: Sequence[Recipient],
    now: datetime,
    *,
    timeout: float,
    seal: Seal | None = None,
) -> Manifest:
    """Write a backup of the SQLite `database` to the new file `target` (mode 0600), durable on return.

    The server may run. The key-encryption key is not in it; `seal` proves by it who made the backup. Raises
    AlreadyExists, NotFound, PermissionDenied, FailedPrecondition, Unavailable; then there is no file.
    """
    if target.exists():
        raise AlreadyExists(f"{target} is there already", mend="give another name")
    with _beside(target) as new, scratch.folder(database.parent, mend=_WHO) as folder:
        copy = folder / "snapshot.db"
        snapshot.take(database, copy, timeout=timeout)
        manifest = _manifest(copy, now)
        if seal is not None:
            manifest = proved(manifest, seal)
        with new.open("wb") as file:
            seal_container(file, _pieces(manifest, copy), recipients)
            file.flush()
            os.fsync(file.fileno())
        _publish(new, target)
    return manifest


def verify(source: Path, opener: Callable[[], Opener]) -> Verified:
    """Open a backup, and look whether all in it is whole. Raises as `unpack`."""
    with scratch.folder(None, mend="set TMPDIR to a folder that can hold the database") as folder:
        return unpack(source, folder / "restored.db", opener)


def unpack(source: Path, database: Path, opener: Callable[[], Opener]) -> Verified:
    """As `extract`, and verify the database. Raises too FailedPrecondition if it is corrupt, NewerDatabase."""
    manifest, origin_told = extract(source, database, opener)
    return look_through(source, database, manifest, origin_told=origin_told)


def extract(source: Path, database: Path, opener: Callable[[], Opener]) -> tuple[Manifest, bool]:
    """Write the database in the backup `source` to the new file `database` (mode 0600), durable on return; with what it
    says of itself, and whether its origin is told. It is not opened: anybody may have made it.

    Raises NotFound, PermissionDenied, InvalidInput (no backup), FailedPrecondition (damaged).
    """
    opener = cache(opener)  # a passphrase is asked for once
    try:
        with source.open("rb") as file:
            manifest = _extract(file, database, opener)
    except FileNotFoundError:
        raise NotFound(f"there is no file {source}", mend="check the path") from None
    except OSError as error:
        raise PermissionDenied(f"{error.filename or source} cannot be used: {error.strerror}") from error
    except (InvalidInput, FailedPrecondition, PermissionDenied) as error:
        if type(error) not in (InvalidInput, FailedPrecondition, PermissionDenied):
            raise  # of the key's file
        raise type(error)(f"{source}: {error.message}", mend=error.mend) from None
    return manifest, opener().tells_origin


def look_through(source: Path, database: Path, manifest: Manifest, *, origin_told: bool) -> Verified:
    """The `database` of the backup `source` holds what it says. Raises FailedPrecondition, NewerDatabase."""
    found = snapshot.contents(database)
    said = (
        manifest.trust_domain,
        manifest.database_id,
        manifest.bundle_sequence,
        manifest.serials,
        dict(manifest.audit),
    )
    if said != (found.trust_domain, found.database_id, found.bundle_sequence, found.serials, found.audit):
        raise FailedPrecondition(f"{source} does not hold what it says it holds", mend="take another backup")
    return Verified(manifest, snapshot.verify_audit(database), origin_told)


def _extract(file: BinaryIO, database: Path, opener: Callable[[], Opener]) -> Manifest:
    content = open_container(file, opener)
    manifest, rest = split(content)
    size, digest = 0, hashlib.sha256()
    with os.fdopen(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
        for piece in _behind(rest, content):
            size += len(piece)
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    if size != manifest.size:
        raise FailedPrecondition(f"it holds {size} bytes of a database of {manifest.size}", mend="take another backup")
    if manifest.digest not in ("", digest.hexdigest()):
        raise FailedPrecondition("it holds another database than it says it holds", mend="take another backup")
    return manifest


def _behind(first: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from content


def _manifest(copy: Path, now: datetime) -> Manifest:
    found = snapshot.contents(copy)
    return Manifest(
        found.trust_domain,
        found.database_id,
        now.isoformat(timespec="seconds"),
        __version__,
        found.revision,
        found.bundle_sequence,
        found.serials,
        found.entries,
        copy.stat().st_size,
        _sha256(copy),
        keks=found.keks,
        audit=found.audit,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(manifest: Manifest, copy: Path) -> Iterator[bytes]:
    yield manifest.encode()
    with copy.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A file beside `target` that only we may read; gone on leaving."""
    with scratch.file_beside(target, mend="check that it exists and who owns it") as new:
        try:
            yield new
        except OSError as error:
            raise FailedPrecondition(f"{target} cannot be written: {error.strerror}", mend="check the disk") from error


def _publish(new: Path, target: Path) -> None:
    """Give it its name, if that is still free."""
    try:
        os.link(new, target)
    except FileExistsError:
        raise AlreadyExists(f"{target} is there already", mend="give another name") from None
    sync_folder(target.parent)


__all__ = ["Verified", "create", "extract", "look_through", "unpack", "verify"]
