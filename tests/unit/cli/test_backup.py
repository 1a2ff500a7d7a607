"""`citadel backup` as a user sees it: keys and passphrases, what is refused, and with which exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from citadel.cli.exits import Exit
from citadel.spiffe import TrustDomain
from citadel.store import Store
from tests.support.cli import CommandLine


async def _fill(home: Path) -> None:
    async with Store.open(f"sqlite:///{home}/db/citadel.db", writer="local") as store:
        await store.pin_trust_domain(TrustDomain("example.org"))
        await store.recognise(home / "database-id")


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def write_pair(folder: Path, key: X25519PrivateKey | Ed25519PrivateKey, name: str = "backup") -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write(folder / f"{name}.pub", public, 0o644)
    write(folder / f"{name}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def home(citadel: CommandLine, tmp_path: Path) -> Path:
    """The folder of a Citadel that has a database, with keys and passphrases beside it."""
    folder = tmp_path / "c"
    assert citadel("init", "--trust-domain", "example.org", "--data-dir", folder).code == 0
    asyncio.run(_fill(folder))
    write_pair(tmp_path, X25519PrivateKey.generate())
    write_pair(tmp_path, Ed25519PrivateKey.generate(), "other")
    write(tmp_path / "passphrase", b"correct horse battery\n")
    write(tmp_path / "wrong", b"correct horse batterz\n")
    write(tmp_path / "short", b"abc\n")
    write(tmp_path / "open", b"correct horse battery\n", 0o644)
    citadel.env["CITADEL_CONFIG"] = str(folder / "citadel.toml")
    return folder


@pytest.mark.parametrize(
    ("seal", "opens"),
    [(("--recipient", "backup.pub"), ("--identity", "backup.key")), (("--passphrase-file", "passphrase"),) * 2],
    ids=["public key", "passphrase"],
)
def test_from_create_to_restore(
    citadel: CommandLine, home: Path, tmp_path: Path, seal: tuple[str, str], opens: tuple[str, str]
) -> None:
    file, how = tmp_path / "monday", (opens[0], tmp_path / opens[1])
    assert citadel("backup", "create", file, seal[0], tmp_path / seal[1]).code == Exit.OK
    found = citadel("backup", "verify", file, *how, "-o", "json").json()
    assert (found["trust_domain"], found["serials"], found["audit_intact"]) == ("example.org", 0, True)
    refused = citadel("backup", "restore", file, *how)
    assert (refused.code, "nothing is overwritten" in refused.err) == (Exit.CONFLICT, True)
    (home / "db" / "citadel.db").unlink()
    assert citadel("backup", "restore", file, *how).code == Exit.OK
    assert (home / "db" / "citadel.db").exists()


def test_a_backup_proves_where_it_comes_from_wherever_the_key_is_a_credential(
    citadel: CommandLine, home: Path, tmp_path: Path
) -> None:
    config, folder = home / "citadel.toml", tmp_path / "credentials"
    config.write_text(config.read_text() + '\n[keys]\nkek = "credential:kek"\n')
    folder.mkdir(mode=0o700)
    write(folder / "kek", (home / "keys" / "kek").read_bytes(), 0o440)
    with_it = {"CREDENTIALS_DIRECTORY": str(folder)}
    made = citadel("backup", "create", tmp_path / "a", "--recipient", tmp_path / "backup.pub")
    assert "nothing in it proves who made it (docs/backup.md)" in made.err
    assert "credential" in made.err
    made = citadel("backup", "create", tmp_path / "b", "--recipient", tmp_path / "backup.pub", **with_it)
    assert ("proof of origin  yes" in made.out, made.err) == (True, "")
    (home / "db" / "citadel.db").unlink()
    restore = ("backup", "restore", tmp_path / "b", "--identity", tmp_path / "backup.key")
    assert "the key-encryption key that could tell is not here" in citadel(*restore).err
    assert citadel(*restore, **with_it).code == Exit.OK


def test_a_passphrase_comes_from_a_credential(citadel: CommandLine, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    write(folder / "pass", b"correct horse battery", 0o440)
    with_it = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert citadel("backup", "create", tmp_path / "b", "--passphrase-credential", "pass", **with_it).code == Exit.OK
    assert citadel("backup", "verify", tmp_path / "b", "--passphrase-file", tmp_path / "passphrase").code == Exit.OK
    for name in ("../passphrase", "none"):
        assert (
            citadel("backup", "verify", tmp_path / "b", "--passphrase-credential", name, **with_it).code
            == Exit.NOT_FOUND
        )


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--passphrase-file", "short"), Exit.INVALID, "3 characters"),
        (("--passphrase-file", "open"), Exit.REFUSED, "others may read"),
        (("--passphrase-file", "none"), Exit.NOT_FOUND, "no passphrase file"),
        (("--recipient", "passphrase"), Exit.INVALID, "X25519 public key"),
        (("--recipient", "other.pub"), Exit.INVALID, "X25519 public key"),
        (("--recipient", "backup.pub", "--passphrase-file", "passphrase"), Exit.INVALID, "not to both"),
    ],
)
def test_what_a_backup_cannot_be_sealed_to_is_refused(
    citadel: CommandLine, home: Path, tmp_path: Path, options: tuple[str, ...], code: Exit, says: str
) -> None:
    given = [option if option.startswith("--") else tmp_path / option for option in options]
    ended = citadel("backup", "create", tmp_path / "b", *given)
    assert (ended.code, says in ended.err) == (code, True), ended.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--passphrase-file", "wrong"), Exit.REFUSED, "does not open"),
        (("--identity", "backup.key"), Exit.REFUSED, "does not open"),
        (("--identity", "other.key"), Exit.INVALID, "X25519 private key"),
        (("--identity", "backup.pub"), Exit.REFUSED, "others may read"),
        (("--identity", "backup.key", "--passphrase-file", "wrong"), Exit.INVALID, "one of them"),
    ],
)
def test_what_does_not_open_it_is_refused(
    citadel: CommandLine, home: Path, tmp_path: Path, options: tuple[str, ...], code: Exit, says: str
) -> None:
    citadel("backup", "create", tmp_path / "b", "--passphrase-file", tmp_path / "passphrase")
    given = [option if option.startswith("--") else tmp_path / option for option in options]
    ended = citadel("backup", "verify", tmp_path / "b", *given)
    assert (ended.code, says in ended.err) == (code, True), ended.err


def test_postgresql_is_told_its_own_means(citadel: CommandLine, home: Path, tmp_path: Path) -> None:
    url = {"CITADEL_STORE__URL": "postgresql://citadel@localhost/citadel"}
    ended = citadel("backup", "create", tmp_path / "b", "--passphrase-file", tmp_path / "passphrase", **url)
    assert (ended.code, "pg_dump" in ended.err) == (Exit.CONFLICT, True), ended.err


def test_accepting_an_older_one_is_asked_for(citadel: CommandLine, home: Path, tmp_path: Path) -> None:
    ended = citadel("backup", "restore", tmp_path / "b", "--accept-older", "--passphrase-file", tmp_path / "passphrase")
    assert (ended.code, "--yes" in ended.err) == (Exit.USAGE, True)
    assert citadel("backup", "accept-older", "--yes").code == Exit.CONFLICT
