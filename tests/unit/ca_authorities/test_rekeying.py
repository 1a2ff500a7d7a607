"""Rekeying on a real store and real files: whole, cut off before each of its effects, and refused."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel import durable
from citadel.audit.auditor import Auditor
from citadel.audit.notary import Notary
from citadel.ca import kek_place
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import file_kek
from citadel.ca.kek_place import CredentialPlace, FilePlace
from citadel.ca.kek_ring import KekRing
from citadel.ca.keyring import Keyring
from citadel.ca.rekeying import Rekeying
from citadel.ca.roots import DiskRoot
from citadel.errors import AlreadyExists, BadFile, CitadelError, FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.clock import ManualClock

DOMAIN = TrustDomain("example.org")


class Crash(BaseException):
    """A kill: nothing of ours catches it."""


def write_key(path: Path) -> str:
    path.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    path.chmod(0o600)
    return file_kek(path).id


class Site:
    """A data directory with a root, an issuing CA and an audit key. Opening it anew is a restart."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.kek = home / "kek"
        self.clock = ManualClock()
        self.place = FilePlace(self.kek)

    @contextmanager
    def opened(self, store: Store, *, shared: bool = False) -> Iterator[Rekeying]:
        self.ring = self.place.load()
        yield Rekeying(store.authorities, store.audit, store.audit, self.ring, self.place, self.clock, shared=shared)

    def store(self) -> Any:
        return Store.open(f"sqlite:///{self.home}/db/citadel.db", writer="one")

    async def populate(self, store: Store) -> None:
        ring = self.place.load()
        await Notary(store.audit, store.audit, ring, self.clock, every=100).open()
        keyring = Keyring(store.authorities, ring)
        root = DiskRoot(
            store.authorities, keyring, self.clock, DOMAIN, ttl=timedelta(days=3650), issuing_ttl=timedelta(days=7)
        )
        policy = AuthorityPolicy(timedelta(days=7), timedelta(hours=1))
        await Authorities(store.authorities, keyring, root, self.clock, DOMAIN, policy).ensure()

    async def all_open(self, store: Store, ring: KekRing | Any) -> set[str]:
        """Under which keys they are; fails unless each of them opens."""
        names = {key.kek_id for key in await store.audit.keys()}
        assert len(await Auditor(store.audit, ring).keys()) == 1
        for authority in await store.authorities.authorities():
            await Keyring(store.authorities, ring).open(authority.skid)
            names.add((await store.authorities.sealed_key(authority.skid)).kek_id)
        return names


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write_key(tmp_path / "kek")
    return Site(tmp_path)


async def actions(store: Store) -> list[str]:
    return [line.body.decode().split('"action":"')[1].split('"')[0] for line in await store.audit.read("one", 0, 1000)]


async def test_every_key_is_under_the_new_one_which_is_in_place_and_the_old_one_is_kept(site: Site) -> None:
    old = file_kek(site.kek)
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            done = await rekeying.rekey("uid:0", None)
            assert (done.keys, done.resealed, done.in_place) == (3, 3, True)
            new = file_kek(site.kek)
            assert new.id == done.kek_id != old.id
            assert await site.all_open(store, new) == {new.id}
            assert file_kek(site.home / "kek.previous").id == old.id
            assert not (site.home / "kek.next").exists()
            assert (await actions(store))[-5:] == ["kek.stage", "audit.key_seal", "key.seal", "key.seal", "kek.promote"]
            assert "citadel keys forget" in rekeying.waiting()[0]
            assert await rekeying.forget("uid:0") == old.id
            assert sorted(p.name for p in site.home.glob("*kek*")) == ["kek"]
            assert rekeying.waiting() == []


async def test_what_is_sealed_meanwhile_opens_afterwards(site: Site) -> None:
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            sealed = await site.ring.seal(b"private", b"x")  # and not written before the keys were listed
            await rekeying.rekey("uid:0", None)
            assert await site.ring.open(sealed, b"x") == b"private"
        assert await site.place.load().open(sealed, b"x") == b"private"  # after a restart too


class Fuse:
    """Burns down with each effect; the one before which it is used up does not happen."""

    def __init__(self, effects: int) -> None:
        self.left = effects

    def burn(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def guard(self, patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def guarded(*args: Any, **named: Any) -> Any:
            self.burn()
            return real(*args, **named)

        patch.setattr(owner, name, guarded)


def guarded(fuse: Fuse, patch: pytest.MonkeyPatch, store: Store) -> None:
    for owner, name in (
        (store.authorities, "replace_sealed_key"),
        (store.audit, "replace_key"),
        (store.audit, "record"),
        (durable, "sync_folder"),
        (kek_place, "sync_folder"),
        (os, "link"),
        (Path, "rename"),
        (Path, "replace"),
    ):
        fuse.guard(patch, owner, name)


@pytest.mark.parametrize("again", ["start", "command"])
@pytest.mark.parametrize("effects", range(13))
async def test_cut_off_before_any_effect_it_is_carried_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, effects: int, again: str
) -> None:
    old = file_kek(site.kek)
    async with site.store() as store:
        await site.populate(store)
    cut = False
    async with site.store() as store:
        with monkeypatch.context() as patch, site.opened(store) as rekeying:
            guarded(Fuse(effects), patch, store)
            try:
                await rekeying.rekey("uid:0", None)
            except Crash:
                cut = True
    assert cut is (effects < 11)
    async with site.store() as store:
        with site.opened(store) as rekeying:
            await site.all_open(store, site.ring)  # whatever is there
            await rekeying.resume()
            await site.all_open(store, site.ring)
            if again == "command" and site.ring.previous is None:
                await rekeying.rekey("uid:0", None)
            names = await site.all_open(store, site.ring)
            assert names == {file_kek(site.kek).id}
            if again == "command":
                assert file_kek(site.kek).id != old.id
                await rekeying.forget("uid:0")
    assert await _opens_alone(site)


async def _opens_alone(site: Site) -> bool:
    async with site.store() as store:
        return len(await site.all_open(store, file_kek(site.kek))) == 1


async def test_a_given_key_is_the_one_that_is_taken(site: Site) -> None:
    given = write_key(site.home / "given")
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            assert (await rekeying.rekey("uid:0", site.home / "given")).kek_id == given
    assert file_kek(site.kek).id == given


async def test_servers_that_share_a_database_hold_the_key_before_anything_is_sealed_under_it(site: Site) -> None:
    write_key(site.home / "given")
    other = Site(site.home / "other")
    other.home.mkdir()
    other.kek.write_bytes(site.kek.read_bytes())
    other.kek.chmod(0o600)
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store, shared=True) as one, other.opened(store, shared=True) as two:
            for unready in (False, True):
                with pytest.raises(FailedPrecondition, match="other servers"):
                    await one.rekey("uid:0", None, all_staged=unready)
            for each in (one, two):
                await each.stage("uid:0", site.home / "given")
            with pytest.raises(FailedPrecondition, match="other servers"):
                await one.rekey("uid:0", None)
            assert (await one.rekey("uid:0", None, all_staged=True)).resealed == 3
            await site.all_open(store, other.ring)
            await site.all_open(store, other.place.load())  # restarted
            assert (await two.rekey("uid:0", None, all_staged=True)).resealed == 0
            assert file_kek(other.kek).id == file_kek(site.kek).id
            for each in (one, two):
                await each.forget("uid:0")


async def test_a_staged_key_alone_starts_nothing(site: Site) -> None:
    old = file_kek(site.kek).id
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            await rekeying.stage("uid:0", None)
            assert "is staged" in rekeying.waiting()[0]
        with site.opened(store) as rekeying:
            await rekeying.resume()
            assert await site.all_open(store, site.ring) == {old}


@pytest.mark.parametrize(
    ("prepare", "error", "match"),
    [
        (lambda f: f.write_bytes(b"short"), BadFile, "32 bytes"),
        (lambda f: f.unlink(), NotFound, "no key file"),
        (lambda f: f.chmod(0o644), CitadelError, "others may read"),
        (lambda f: f.write_bytes((f.parent / "kek").read_bytes()), FailedPrecondition, "in force already"),
        (lambda f: write_key(f.parent / "kek.next"), AlreadyExists, "staged already"),
        (lambda f: write_key(f.parent / "kek.previous"), FailedPrecondition, "still kept"),
    ],
    ids=["malformed", "missing", "open to others", "the current one", "another one is staged", "previous kept"],
)
async def test_what_cannot_be_taken_is_refused_and_nothing_changes(
    site: Site, prepare: Callable[[Path], object], error: type[CitadelError], match: str
) -> None:
    write_key(site.home / "given")
    old = file_kek(site.kek).id
    async with site.store() as store:
        await site.populate(store)
        prepare(site.home / "given")
        with site.opened(store) as rekeying:
            with pytest.raises(error, match=match):
                await rekeying.rekey("uid:0", site.home / "given")
            assert await site.all_open(store, site.ring) == {old}
    assert file_kek(site.kek).id == old


async def test_a_key_that_does_not_open_stops_it_and_is_named(site: Site) -> None:
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            await site.all_open(store, site.ring)
            old = file_kek(site.kek).id
            write_key(site.kek)  # not the one that belongs to this database
        with site.opened(store) as rekeying:
            with pytest.raises(FailedPrecondition, match="audit key"):
                await rekeying.rekey("uid:0", None)
            assert {key.kek_id for key in await store.audit.keys()} == {old}


async def test_nothing_is_forgotten_that_is_not_there_or_while_a_key_is_staged(site: Site) -> None:
    async with site.store() as store:
        await site.populate(store)
        with site.opened(store) as rekeying:
            with pytest.raises(NotFound):
                await rekeying.forget("uid:0")
            await rekeying.rekey("uid:0", None)
        write_key(site.home / "kek.next")
        with site.opened(store) as rekeying, pytest.raises(FailedPrecondition, match="staged"):
            await rekeying.forget("uid:0")


async def test_a_credential_is_resealed_to_and_its_place_is_the_operators(site: Site) -> None:
    folder = site.home / "credentials"
    folder.mkdir()
    (folder / "c").write_bytes(site.kek.read_bytes())
    (folder / "c").chmod(0o400)
    place = CredentialPlace("c", str(folder))
    async with site.store() as store:
        await site.populate(store)
        rekeying = Rekeying(store.authorities, store.audit, store.audit, place.load(), place, site.clock, shared=False)
        with pytest.raises(FailedPrecondition, match="credential of systemd"):
            await rekeying.rekey("uid:0", None)
        new = write_key(folder / "c.next")
        ring = place.load()
        rekeying = Rekeying(store.authorities, store.audit, store.audit, ring, place, site.clock, shared=False)
        done = await rekeying.rekey("uid:0", None)
        assert (done.kek_id, done.in_place) == (new, False)
        assert "old one's place" in rekeying.waiting()[0]
        assert await site.all_open(store, place.load()) == {new}
