"""Keys at rest: what seals opens, and nothing else does."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from citadel.ca.kek import LocalKek, credential_kek, file_kek
from citadel.errors import BadFile, CitadelError, FailedPrecondition, InvalidInput, NotFound, UnsafePermissions


def write_key(path: Path, content: bytes | None = None, mode: int = 0o600) -> Path:
    path.write_bytes(base64.b64encode(os.urandom(32)) if content is None else content)
    path.chmod(mode)
    return path


async def test_what_was_sealed_opens_in_its_own_context_only(tmp_path: Path) -> None:
    kek = file_kek(write_key(tmp_path / "kek"))
    sealed = await kek.seal(b"private", b"authority 1")
    assert b"private" not in sealed
    assert await kek.open(sealed, b"authority 1") == b"private"
    with pytest.raises(FailedPrecondition):
        await kek.open(sealed, b"authority 2")


async def test_another_key_and_an_altered_ciphertext_are_refused(tmp_path: Path) -> None:
    kek, other = file_kek(write_key(tmp_path / "a")), file_kek(write_key(tmp_path / "b"))
    sealed = await kek.seal(b"private", b"x")
    assert kek.id != other.id
    for key, text in ((other, sealed), (kek, sealed[:-1] + bytes([sealed[-1] ^ 1])), (kek, sealed[:5]), (kek, b"")):
        with pytest.raises(FailedPrecondition):
            await key.open(text, b"x")


async def test_sealing_twice_gives_two_ciphertexts(tmp_path: Path) -> None:
    kek = file_kek(write_key(tmp_path / "kek"))
    assert await kek.seal(b"same", b"x") != await kek.seal(b"same", b"x")


@pytest.mark.parametrize(
    ("content", "mode", "error", "says"),
    [
        (None, 0o640, UnsafePermissions, "chmod 600"),
        (None, 0o604, UnsafePermissions, "chmod 600"),
        (b"", 0o600, BadFile, "32 bytes"),
        (b"not base64 at all!", 0o600, BadFile, "32 bytes"),
        (base64.b64encode(b"short"), 0o600, BadFile, "32 bytes"),
        (b"A" * 70_000, 0o600, BadFile, "larger than"),
    ],
)
def test_a_bad_key_file_is_refused_with_the_mend(
    tmp_path: Path, content: bytes | None, mode: int, error: type[CitadelError], says: str
) -> None:
    path = write_key(tmp_path / "kek", content, mode)
    with pytest.raises(error) as caught:
        file_kek(path)
    assert says in caught.value.sentence()
    assert str(path) in caught.value.sentence()


def test_a_missing_file_a_folder_and_a_pipe_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no key file"):
        file_kek(tmp_path / "nothing")
    with pytest.raises(CitadelError, match="not a regular file"):
        file_kek(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(CitadelError, match="not a regular file"):
        file_kek(tmp_path / "pipe")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_file_of_somebody_else_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = write_key(tmp_path / "kek")
    os.chown(path, 12345, -1)
    with pytest.raises(UnsafePermissions) as caught:
        file_kek(path)
    assert f"{path} belongs to uid 12345; run: chown 0 {path}" == caught.value.sentence()


def test_a_link_in_its_place_and_a_folder_where_everybody_writes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_key(tmp_path / "kek"))
    with pytest.raises(UnsafePermissions, match="is a symbolic link"):
        file_kek(tmp_path / "link")
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafePermissions) as caught:
        file_kek(tmp_path / "kek")
    assert f"chmod o-w {tmp_path}" in caught.value.sentence()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd"])
def test_a_credential_is_named_not_pathed(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not the name of a credential"):
        credential_kek(name, str(tmp_path))


@pytest.mark.parametrize(("mode", "taken"), [(0o400, True), (0o440, True), (0o444, False), (0o460, False)])
def test_a_credential_may_show_an_access_list_and_no_more(tmp_path: Path, mode: int, taken: bool) -> None:
    write_key(tmp_path / "kek", mode=mode)
    if taken:
        credential_kek("kek", str(tmp_path))
        return
    with pytest.raises(UnsafePermissions):
        credential_kek("kek", str(tmp_path))


def test_a_credential_comes_from_systemds_folder(tmp_path: Path) -> None:
    write_key(tmp_path / "kek")
    assert credential_kek("kek", str(tmp_path)).id == file_kek(tmp_path / "kek").id
    with pytest.raises(NotFound) as caught:
        credential_kek("kek", None)
    assert "LoadCredential" in caught.value.sentence()


def test_its_repr_shows_no_key() -> None:
    key = os.urandom(32)
    shown = repr(LocalKek(key))
    assert key.hex() not in shown
    assert base64.b64encode(key).decode() not in shown
