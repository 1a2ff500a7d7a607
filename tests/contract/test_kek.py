"""The contract of ports.KeyEncryptionKey, over every implementation."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citadel.ca.kek import credential_kek, file_kek
from citadel.ca.ports import KeyEncryptionKey
from citadel.errors import FailedPrecondition
from citadel.vault import TransitKek
from tests.support.vault import Vault, running

Make = Callable[[bytes], KeyEncryptionKey]


def _file(folder: Path) -> Make:
    def make(key: bytes) -> KeyEncryptionKey:
        path = folder / "kek"
        path.write_bytes(base64.b64encode(key) + b"\n")
        path.chmod(0o600)
        return file_kek(path)

    return make


def _credential(folder: Path) -> Make:
    """As systemd leaves it (systemd.exec, "Credentials"): a folder that only the service's user may enter, and files
    that are read-only, in which an access list shows as group-readable."""

    def make(key: bytes) -> KeyEncryptionKey:
        credentials = folder / "credentials"
        credentials.mkdir(exist_ok=True)
        path = credentials / "citadel-kek"
        path.unlink(missing_ok=True)
        path.write_bytes(base64.b64encode(key))
        path.chmod(0o440)
        return credential_kek("citadel-kek", str(credentials))

    return make


def _transit(vault: Vault) -> Make:
    """Each key is one of Vault's transit engine; which, its name says."""
    mount = vault.mount("transit")
    session = vault.session()

    def make(key: bytes) -> KeyEncryptionKey:
        vault.call("POST", f"{mount}/keys/{key.hex()[:8]}", {})
        return TransitKek(session, mount, key.hex()[:8])

    return make


@pytest.fixture(params=["file", "credential", "vault-double", "vault-bao"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    if request.param.startswith("vault"):
        with running(request.param.removeprefix("vault-"), tmp_path) as vault:
            yield _transit(vault)
    else:
        yield {"file": _file, "credential": _credential}[request.param](tmp_path)


KEY, OTHER = os.urandom(32), os.urandom(32)


async def test_what_it_seals_it_opens(make: Make) -> None:
    kek = make(KEY)
    for plain in (b"", b"private", os.urandom(5000)):
        assert await kek.open(await kek.seal(plain, b"authority 1"), b"authority 1") == plain


async def test_the_same_key_opens_after_a_restart_and_has_the_same_name(make: Make) -> None:
    first = make(KEY)
    sealed = await first.seal(b"private", b"x")
    second = make(KEY)
    assert second.id == first.id
    assert await second.open(sealed, b"x") == b"private"


async def test_another_key_has_another_name_and_opens_nothing(make: Make) -> None:
    first = make(KEY)
    sealed = await first.seal(b"private", b"x")
    second = make(OTHER)
    assert second.id != first.id
    with pytest.raises(FailedPrecondition) as caught:
        await second.open(sealed, b"x")
    assert second.id in caught.value.sentence()


async def test_what_was_sealed_for_one_place_does_not_open_in_another(make: Make) -> None:
    kek = make(KEY)
    sealed = await kek.seal(b"private", b"authority 1")
    for context in (b"authority 2", b"", b"authority 1 "):
        with pytest.raises(FailedPrecondition):
            await kek.open(sealed, context)


async def test_no_byte_of_what_was_sealed_can_change(make: Make) -> None:
    kek = make(KEY)
    sealed = await kek.seal(b"private", b"x")
    for at in range(len(sealed)):
        with pytest.raises(FailedPrecondition):
            await kek.open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"x")
    for cut in (sealed[:-1], sealed[:13], b"", sealed + b"\0"):
        with pytest.raises(FailedPrecondition):
            await kek.open(cut, b"x")


async def test_each_sealing_is_fresh_and_shows_nothing(make: Make) -> None:
    kek = make(KEY)
    sealed = [await kek.seal(b"private", b"x") for _ in range(50)]
    assert len(set(sealed)) == 50
    assert not any(b"private" in one for one in sealed)


async def test_its_name_and_what_it_shows_of_itself_reveal_nothing(make: Make) -> None:
    kek = make(KEY)
    for shown in (kek.id, repr(kek), str(kek)):
        assert KEY.hex() not in shown
        assert base64.b64encode(KEY).decode() not in shown
