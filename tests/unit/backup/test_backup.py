"""Backups of a real store: made while it is written to, verified, restored, and refused."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from citadel.audit.notary import Notary
from citadel.backup import Identity, Manifest, Passphrase, PublicKey, making
from citadel.backup.container import seal_container
from citadel.backup.keeper import HighWaterKeeper
from citadel.backup.origin import CONTEXT, refuse_unproved
from citadel.backup.restoring import Place, accept_present, restore
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.model import Skid
from citadel.ca.roots import DiskRoot
from citadel.ca.rotation.schedule import Approval
from citadel.errors import AlreadyExists, CitadelError, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from citadel.spiffe import TrustDomain
from citadel.store import Store
from citadel.store.high_water import read_mark
from tests.support.clock import ManualClock
from tests.support.store import NOW, chain_is_whole, event, intent, issue

DOMAIN = TrustDomain("example.org")
KEY = X25519PrivateKey.generate()
TO = [PublicKey(KEY.public_key())]


def opener() -> Identity:
    return Identity(KEY)


class Site:
    """A server's data directory."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        self.place = Place(home, home / "db" / "citadel.db", DOMAIN, "one")
        self.url = f"sqlite:///{self.place.database}"
        self.kek = LocalKek(b"k" * 32)
        self.clock = ManualClock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Store]:
        """As the server starts, and stops gracefully. Raises FailedPrecondition if the database is too old."""
        async with Store.open(self.url, writer="one") as store:
            database_id = await store.recognise(self.place.id)
            await store.pin_trust_domain(DOMAIN)
            keeper = HighWaterKeeper(self.place.mark, store.authorities, store.audit, DOMAIN, store.changes)
            keeper.know(database_id)
            await keeper.refuse_older()
            notary = Notary(store.audit, store.audit, self.kek, self.clock, every=100)
            await notary.open()
            keyring = Keyring(store.authorities, self.kek)
            root = DiskRoot(
                store.authorities, keyring, self.clock, DOMAIN, ttl=timedelta(days=3650), issuing_ttl=timedelta(days=7)
            )
            policy = AuthorityPolicy(timedelta(days=7), timedelta(hours=1))
            await Authorities(store.authorities, keyring, root, self.clock, DOMAIN, policy).ensure()
            yield store
            await notary.checkpoint()
            await keeper.last()

    def backup(self, name: str = "backup") -> Path:
        file = self.place.data_dir / name
        making.create(self.place.database, file, TO, NOW, timeout=5, seal=self.seal)
        return file

    def seal(self, digest: bytes) -> bytes:
        with ThreadPoolExecutor(1) as elsewhere:  # a loop may run here
            return elsewhere.submit(asyncio.run, self.kek.seal(digest, CONTEXT)).result()

    async def restore(self, file: Path, *, accept_older: bool = False, **more: Any) -> str:
        how = {"opened": partial(self.kek.open, context=CONTEXT), **more}
        return (await restore(file, self.place, opener, self.clock, "uid:0", accept_older=accept_older, **how))[1]

    def lose_database(self) -> None:
        for path in self.place.database.parent.glob("citadel.db*"):
            path.unlink()

    def files(self) -> list[str]:
        """What is there, but locks."""
        found = self.place.data_dir.rglob("*")
        return sorted(str(p.relative_to(self.place.data_dir)) for p in found if p.name != "lock")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "one")


async def raise_bundle(store: Store) -> int:
    bundle = await store.authorities.bundle(DOMAIN)
    assert bundle is not None
    await store.authorities.put_bundle(replace(bundle, sequence=bundle.sequence + 1), event())
    return bundle.sequence + 1


async def test_a_backup_is_one_state_of_a_store_that_is_written_to(site: Site) -> None:
    async with site.running() as store:

        async def write() -> None:
            for serial in range(1, 200):
                await issue(store, serial)

        writing = asyncio.create_task(write())
        files = []
        for number in range(4):
            await asyncio.sleep(0)
            files.append(await asyncio.to_thread(site.backup, f"b{number}"))
        await writing
    found = [making.verify(file, opener) for file in files]
    assert [one.faults for one in found] == [[]] * 4
    counts = [one.manifest.serials for one in found]
    assert counts == sorted(counts)
    for one in found:  # serial and audit record are of one transaction
        assert one.manifest.audit["one"] - one.manifest.serials == found[0].manifest.audit["one"] - counts[0]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert [path for path in site.files() if "snapshot" in path or path.startswith("db/.")] == []


async def test_a_backup_says_what_is_in_it_and_has_no_key_to_it(site: Site) -> None:
    async with site.running() as store:
        await issue(store, 1, 2)
        bundle = await store.authorities.bundle(DOMAIN)
        file = site.backup()
    manifest = making.verify(file, opener).manifest
    assert bundle is not None
    assert manifest.trust_domain == "example.org"
    assert (manifest.bundle_sequence, manifest.serials, manifest.entries) == (bundle.sequence, 2, 0)
    assert manifest.keks == (site.kek.id,)
    assert b"example.org" not in file.read_bytes()


async def test_what_is_restored_elsewhere_is_the_same_store(site: Site, tmp_path: Path) -> None:
    async with site.running() as store:
        await issue(store, 1)
        file = site.backup()
        skids = [authority.skid for authority in await store.authorities.authorities()]
    other = Site(tmp_path / "other")
    assert await other.restore(file) == ""
    assert stat.S_IMODE(other.place.database.stat().st_mode) == 0o600
    assert other.files() == ["database-id", "db", "db/citadel.db"]
    async with other.running() as store:
        assert [authority.skid for authority in await store.authorities.authorities()] == skids
        assert (await store.issuance.get(1)).intent == intent(1)
        assert await chain_is_whole(store, "one") > 0


async def test_what_is_older_than_clients_have_seen_is_refused_until_it_is_accepted(site: Site) -> None:
    async with site.running() as store:
        file = site.backup()
    async with site.running() as store:
        seen = await raise_bundle(store)
        await issue(store, 7)
    site.lose_database()
    before = site.files()
    with pytest.raises(FailedPrecondition, match=f"clients have seen {seen}"):
        await site.restore(file)
    assert site.files() == before
    assert f"clients have seen {seen}" in await site.restore(file, accept_older=True)
    async with site.running() as store:
        bundle = await store.authorities.bundle(DOMAIN)
        assert bundle is not None
        assert bundle.sequence > seen
        assert await chain_is_whole(store, "one") > 0
        bodies = [line.body for line in await store.audit.read("one", 0, 1000)]
        assert any(b'"backup.accept_older"' in body for body in bodies)
    async with site.running():  # and it stays accepted
        pass


async def test_a_newest_backup_is_restored_without_a_question(site: Site) -> None:
    async with site.running():
        pass
    file = site.backup()
    site.lose_database()
    assert await site.restore(file) == ""


async def test_a_database_that_went_back_by_other_means_is_not_served_until_it_is_accepted(site: Site) -> None:
    async with site.running():
        pass
    old = site.place.database.read_bytes()
    async with site.running() as store:
        seen = await raise_bundle(store)
    with pytest.raises(FailedPrecondition, match="not behind"):
        await accept_present(site.url, site.place, site.clock, "uid:0")
    site.lose_database()
    site.place.database.write_bytes(old)
    with pytest.raises(FailedPrecondition, match="older than what was in use"):
        async with site.running():
            pass
    await accept_present(site.url, site.place, site.clock, "uid:0")
    async with site.running() as store:
        bundle = await store.authorities.bundle(DOMAIN)
        assert bundle is not None
        assert bundle.sequence > seen


async def test_the_mark_follows_bundle_and_rotations_while_the_server_runs(site: Site) -> None:
    async with site.running() as store:
        keeper = HighWaterKeeper(site.place.mark, store.authorities, store.audit, DOMAIN, store.changes)
        keeper.know("0" * 32)
        task = asyncio.create_task(keeper.run())
        await asyncio.sleep(0.05)
        wanted = await raise_bundle(store)
        async with asyncio.timeout(5):
            while (mark := read_mark(site.place.mark)) is None or mark.bundle_sequence < wanted:
                await asyncio.sleep(0.01)
        before = mark.audit_sequence
        await store.rotation.approve(Approval(Skid("aa"), "uid:0", NOW, ""), event())
        async with asyncio.timeout(5):  # less than the time after which it is written in any case
            while (mark := read_mark(site.place.mark)) is None or mark.audit_sequence <= before:
                await asyncio.sleep(0.01)
        task.cancel()
        assert stat.S_IMODE(site.place.mark.stat().st_mode) == 0o600
        keeper.know(await store.recognise(site.place.id))
        await keeper.last()


def spoil_audit(site: Site) -> None:
    with closing(sqlite3.connect(site.place.database)) as database:
        database.execute("UPDATE audit SET body = replace(body, 'uid', 'UID') WHERE sequence = 2")
        database.execute("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 3")
        database.commit()


async def test_an_audit_log_that_is_not_intact_shows_and_is_not_restored(site: Site, tmp_path: Path) -> None:
    async with site.running() as store:
        await issue(store, 1)
    spoil_audit(site)
    file = site.backup()
    assert making.verify(file, opener).faults
    with pytest.raises(FailedPrecondition, match="not intact"):
        await Site(tmp_path / "other").restore(file)


def _another_domain(site: Site) -> None:
    site.place = replace(site.place, trust_domain=TrustDomain("other.org"))


def _another_database(site: Site) -> None:
    site.place.id.write_text("f" * 32 + "\n")


def _spoilt_mark(site: Site) -> None:
    site.place.mark.write_text("nonsense")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [(_another_domain, "trust domain"), (_another_database, "another database"), (_spoilt_mark, "high-water mark")],
)
async def test_what_does_not_belong_there_is_not_restored(
    site: Site, spoil: Callable[[Site], None], match: str
) -> None:
    async with site.running():
        file = site.backup()
    site.lose_database()
    spoil(site)
    before = site.files()
    with pytest.raises(FailedPrecondition, match=match):
        await site.restore(file)
    assert site.files() == before


async def test_nothing_is_overwritten(site: Site) -> None:
    async with site.running():
        file = site.backup()
        with pytest.raises(AlreadyExists):
            await site.restore(file)
    content = file.read_bytes()
    with pytest.raises(AlreadyExists):
        site.backup()
    assert file.read_bytes() == content
    with pytest.raises(AlreadyExists, match=r"citadel\.db is there"):
        await site.restore(file)
    site.lose_database()
    site.place.database.with_name("citadel.db-wal").write_bytes(b"x")
    with pytest.raises(AlreadyExists, match="wal"):
        await site.restore(file)


async def test_no_backup_is_made_of_nothing_and_no_file_is_left(site: Site, tmp_path: Path) -> None:
    for database, target in (
        (site.place.database, tmp_path / "backup"),
        (site.place.data_dir / "none.db", tmp_path / "backup"),
        (site.place.data_dir / "none.db", tmp_path / "nowhere" / "backup"),
    ):
        with pytest.raises((NotFound, PermissionDenied)):
            making.create(database, target, TO, NOW, timeout=1)
    garbage = site.place.data_dir / "garbage.db"
    garbage.write_bytes(b"no database" * 1000)
    with pytest.raises(FailedPrecondition, match="corrupt"):
        making.create(garbage, tmp_path / "backup", TO, NOW, timeout=1)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert site.files() == ["garbage.db"]


async def test_what_is_no_backup_or_damaged_is_named_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    async with site.running():
        whole = site.backup().read_bytes()
    other = Site(tmp_path / "other")
    cases: list[tuple[bytes, type[CitadelError]]] = [
        (b"", InvalidInput),
        (b"something else", InvalidInput),
        (whole[:-1], FailedPrecondition),
        (whole[: len(whole) // 2], FailedPrecondition),
        (whole + b"x", FailedPrecondition),
    ]
    for content, error in cases:
        file = tmp_path / "file"
        file.write_bytes(content)
        with pytest.raises(error, match="file"):
            making.verify(file, opener)
        with pytest.raises(error):
            await other.restore(file)
        assert other.files() == ["db"]
    with pytest.raises(NotFound):
        making.verify(tmp_path / "none", opener)


MANIFEST = Manifest("example.org", "d", "2026-01-01T00:00:00+00:00", "1", "r", 1, 1, 1, 1, audit={"one": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"keks": 1}',
        b"[" * 100_000,
        *(
            replace(MANIFEST, **wrong).encode()[4:]
            for wrong in (
                {"audit": [1, 2]},
                {"audit": 5},
                {"audit": {"one": "1"}},
                {"keks": [1]},
                {"proof": 5},
                {"size": "1"},
                {"serials": -1},
                {"trust_domain": None},
            )
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(FailedPrecondition):
        Manifest.decode(body)


async def test_a_proof_that_is_no_base64_proves_nothing() -> None:
    async def opened(_: bytes) -> bytes:
        raise AssertionError("there is nothing to open")

    assert Manifest.decode(MANIFEST.encode()[4:]) == MANIFEST
    for proof in ("é", "a", "!!!!"):
        with pytest.raises(FailedPrecondition, match="nobody can tell"):
            await refuse_unproved(replace(MANIFEST, proof=proof), opened)


ENDLESS = (
    "CREATE VIEW bundles AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n AS sequence, 'x'"
)


async def test_a_database_of_somebody_else_is_not_opened_before_it_is_proved_and_runs_nothing(
    site: Site, tmp_path: Path
) -> None:
    """In its place a view may lie that has no end."""
    async with site.running():
        pass
    forger = Site(tmp_path / "forger")
    shutil.copytree(site.place.database.parent, forger.place.database.parent)
    whole = forger.backup("whole")
    manifest = making.verify(whole, opener).manifest
    with closing(sqlite3.connect(forger.place.database)) as connection, connection:
        connection.execute("DROP TABLE bundles")
        connection.execute(f"{ENDLESS} AS trust_domain FROM c")
        connection.execute("PRAGMA journal_mode=DELETE")
    forged, content = tmp_path / "forged", forger.place.database.read_bytes()
    said = replace(manifest, size=len(content), digest=hashlib.sha256(content).hexdigest())
    with forged.open("wb") as file:
        seal_container(file, [said.encode(), content], TO)
    site.lose_database()
    with pytest.raises(FailedPrecondition, match="nobody can tell"):
        await site.restore(forged)
    with pytest.raises(FailedPrecondition, match="it has 'bundles', which is no table"):
        making.verify(forged, opener)


async def test_a_backup_that_nobody_of_us_made_is_not_restored_until_that_is_accepted(
    site: Site, tmp_path: Path
) -> None:
    """Whoever has the public key can seal a store with roots of their own to it."""
    async with site.running():
        pass
    forger = Site(tmp_path / "forger")
    forger.kek = LocalKek(b"f" * 32)
    shutil.copytree(site.place.database.parent, forger.place.database.parent)
    unproved = tmp_path / "unproved"
    making.create(site.place.database, unproved, TO, NOW, timeout=5)
    site.lose_database()
    before = site.files()
    for file, why in ((forger.backup(), "not of the key-encryption key that is here"), (unproved, "no proof")):
        with pytest.raises(FailedPrecondition, match=why):
            await site.restore(file)
    with pytest.raises(FailedPrecondition, match="key that could tell is not here"):
        await site.restore(forger.backup("again"), opened=None)
    assert site.files() == before
    await site.restore(unproved, accept_unproved=True)


async def test_a_proof_is_of_one_backup_and_of_no_other(site: Site) -> None:
    async with site.running() as store:
        old = making.verify(site.backup("old"), opener).manifest
        await issue(store, 1)
        new = making.verify(site.backup("new"), opener).manifest
    with pytest.raises(FailedPrecondition, match="of something else"):
        await refuse_unproved(replace(new, proof=old.proof), partial(site.kek.open, context=CONTEXT))
    await refuse_unproved(new, partial(site.kek.open, context=CONTEXT))


async def test_what_a_passphrase_opens_needs_no_proof(site: Site) -> None:
    async with site.running():
        pass
    file, words = site.place.data_dir / "b", Passphrase("correct horse battery")
    making.create(site.place.database, file, [words], NOW, timeout=5)
    site.lose_database()
    await restore(file, site.place, lambda: words, site.clock, "uid:0", accept_older=False, opened=None)


async def test_what_a_killed_run_left_is_cleared_by_the_next_but_nothing_that_is_in_use(site: Site) -> None:
    async with site.running():
        pass
    folder = site.place.database.parent
    names = [folder / ".citadel-backup-old", folder / ".citadel-backup-busy", folder / ".citadel-backup-new"]
    for name in names:
        name.mkdir()
        (name / "snapshot.db").touch()
    sealed = site.place.data_dir / ".citadel-backup-file"
    sealed.touch()
    for name in (*names[:2], sealed):
        os.utime(name, (0, 0))
    busy = os.open(names[1], os.O_RDONLY)
    fcntl.flock(busy, fcntl.LOCK_EX)
    try:
        site.backup()
    finally:
        os.close(busy)
    assert [name.exists() for name in (*names, sealed)] == [False, True, True, False]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to be somebody else than the owner")
async def test_root_is_told_to_restore_as_the_user_who_owns_the_folder(site: Site) -> None:
    async with site.running():
        pass
    file = site.backup()
    site.lose_database()
    os.chown(site.place.data_dir, 4711, 4711)
    with pytest.raises(FailedPrecondition, match="belongs to the user 4711") as caught:
        await site.restore(file)
    assert "sudo -u '#4711'" in caught.value.sentence()
