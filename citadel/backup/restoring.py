"""Restores a backup into a data directory without a database, and does not go back behind what clients have seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from citadel.audit import AuditEvent, JsonScalar
from citadel.backup import scratch
from citadel.backup.making import Verified, extract, look_through
from citadel.backup.origin import Open, refuse_unproved
from citadel.backup.recipients import Opener
from citadel.clock import Clock
from citadel.durable import sync_folder
from citadel.errors import AlreadyExists, FailedPrecondition
from citadel.spiffe import TrustDomain
from citadel.store import Store
from citadel.store.high_water import HighWater, read_mark, write_mark
from citadel.store.recognised import remember, remembered
from citadel.store.sqlite_file import DirectoryLock, prepare_folder

_MARK, _ID = "high-water", "database-id"
_LATER = "restore a newer one; or accept what is lost with --accept-older (see docs/backup.md)"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server of `trust_domain` keeps its state. `writer` names its audit chain."""

    data_dir: Path
    database: Path
    trust_domain: TrustDomain
    writer: str

    @property
    def mark(self) -> Path:
        return self.data_dir / _MARK

    @property
    def id(self) -> Path:
        return self.data_dir / _ID


async def restore(
    source: Path,
    place: Place,
    opener: Callable[[], Opener],
    clock: Clock,
    actor: str,
    *,
    accept_older: bool,
    opened: Open | None,
    accept_unproved: bool = False,
) -> tuple[Verified, str]:
    """Put the database of a backup in its place, durable on return; what it is behind in, if that was accepted.
    `opened` opens proofs of origin, if the key-encryption key is there.

    Raises AlreadyExists (there is a database), FailedPrecondition (a server runs, another trust domain, another
    database than before, older than what clients have seen, an audit log that is not intact, no proof of origin, a
    folder of another user), and as `making.unpack`; then nothing has changed.
    """
    _refuse_present(place)
    _refuse_foreign(place.data_dir)
    known, mark = remembered(place.id), read_mark(place.mark)
    prepare_folder(place.database)
    lock = DirectoryLock(place.database.parent / "lock")
    try:
        with scratch.folder(place.database.parent, mend="run this as Citadel's user, or check data_dir") as folder:
            staged = folder / "citadel.db"
            manifest, origin_told = extract(source, staged, opener)
            if not (origin_told or accept_unproved):
                await refuse_unproved(manifest, opened)  # before anything of it is believed, or opened
            verified = look_through(source, staged, manifest, origin_told=origin_told)
            behind = _judge(verified, place, known, mark, accept_older=accept_older)
            if behind and mark is not None:
                mark = await accept(f"sqlite:///{staged}", place, mark, behind, clock, actor)
            _settle(staged, place, verified, known)
            if behind and mark is not None:
                write_mark(place.mark, mark)
    finally:
        lock.release()
    return verified, behind


async def accept_present(url: str, place: Place, clock: Clock, actor: str) -> str:
    """Accept the database that is in its place already, although it is behind; in what it is.

    Raises FailedPrecondition if it is not, or is another database than before, or a server runs on it.
    """
    mark = read_mark(place.mark)
    if mark is None:
        raise FailedPrecondition(f"there is no mark {place.mark}", mend="there is nothing to accept")
    async with Store.open(url, writer=place.writer) as store, store.unserved():
        database_id = await store.recognise(place.id)
        bundle, tip = await store.authorities.bundle(place.trust_domain), store.audit.tip()
        behind = mark.behind(database_id, bundle.sequence if bundle else 0, tip[0] if tip else 0)
        if not behind:
            raise FailedPrecondition(
                "the database is not behind what clients have seen", mend="there is nothing to accept"
            )
        write_mark(place.mark, await _accept(store, place, mark, behind, clock, actor))
    return behind


async def accept(url: str, place: Place, mark: HighWater, behind: str, clock: Clock, actor: str) -> HighWater:
    """Make a database that is behind the mark fit to be served: its bundle's sequence goes past what clients have seen.

    The mark that is true from then on.
    """
    async with Store.open(url, writer=place.writer, timeout=timedelta(seconds=30)) as store:
        return await _accept(store, place, mark, behind, clock, actor)


async def _accept(store: Store, place: Place, mark: HighWater, behind: str, clock: Clock, actor: str) -> HighWater:
    detail: dict[str, JsonScalar] = {"behind": behind, "bundle_sequence": mark.bundle_sequence + 1}
    event = AuditEvent(clock.now(), actor, "backup.accept_older", place.trust_domain.name, detail)
    sequence = await store.authorities.raise_sequence(place.trust_domain, mark.bundle_sequence + 1, event)
    detail = {"bundle_sequence": sequence}
    again = AuditEvent(clock.now(), actor, "backup.acknowledge_again", place.trust_domain.name, detail)
    await store.rotation.acknowledge_again(sequence, again)
    tip = store.audit.tip()
    return HighWater(mark.database_id, sequence, place.writer, tip[0] if tip else 0)


def _refuse_foreign(data_dir: Path) -> None:
    owner = data_dir.stat().st_uid if data_dir.exists() else os.geteuid()
    if owner != os.geteuid():
        raise FailedPrecondition(
            f"{data_dir} belongs to the user {owner}, who could not open what user {os.geteuid()} puts there",
            mend=f"run it as Citadel's user: sudo -u '#{owner}' citadel backup restore ...",
        )


def _refuse_present(place: Place) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = place.database.with_name(place.database.name + suffix)
        if path.exists():
            raise AlreadyExists(
                f"{path} is there, and nothing is overwritten",
                mend="move it away if it is not needed, or choose another data_dir",
            )


def _judge(verified: Verified, place: Place, known: str | None, mark: HighWater | None, *, accept_older: bool) -> str:
    """In what the backup is behind; raises FailedPrecondition if it must not be restored here."""
    manifest = verified.manifest
    if verified.faults:
        raise FailedPrecondition(f"its audit log is not intact: {verified.faults[0]}", mend="take another backup")
    if manifest.trust_domain != place.trust_domain.name:
        raise FailedPrecondition(
            f"the backup is of the trust domain {manifest.trust_domain}, not of {place.trust_domain}",
            mend="take the backup of this one, or set trust_domain",
        )
    if known is not None and known != manifest.database_id:
        raise FailedPrecondition(
            f"the backup is of another database than {place.id} remembers",
            mend="take the right one, or another data_dir",
        )
    if mark is None:
        return ""
    behind = mark.behind(manifest.database_id, manifest.bundle_sequence, manifest.audit.get(mark.writer, 0))
    if behind and not accept_older:
        raise FailedPrecondition(f"the backup is older than what was in use here: {behind}", mend=_LATER)
    return behind


def _settle(staged: Path, place: Place, verified: Verified, known: str | None) -> None:
    if known is None and verified.manifest.database_id:
        remember(place.id, verified.manifest.database_id)
    staged.chmod(0o600)
    os.link(staged, place.database)  # not a rename: what came there meanwhile is not overwritten
    sync_folder(place.database.parent)


__all__ = ["Place", "accept", "accept_present", "restore"]
