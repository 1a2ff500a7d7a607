"""Keys at rest in a whole run: nothing that is written down shows one, and only the right key opens them."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from citadel.ca.kek import file_kek
from citadel.ca.keyring import Keyring
from citadel.ca.keys import PrivateKey
from citadel.store import Store
from tests.support.cacerts import make_ca, plug
from tests.support.up import QUICK, Up, Workload, me, running

_DEBUG = '[log]\nlevel = "debug"\n'
_MARKERS = (b"PRIVATE KEY", b"BEGIN RSA", b"BEGIN EC")


def workload_keys(up: Up, count: int) -> Iterator[PrivateKey]:
    with Workload(up.workload_socket, "default", "ROOTCA") as client:
        while count:
            if "default" in (secrets := client.take()):
                count -= 1
                pem = secrets["default"].tls_certificate.private_key.inline_bytes
                key = serialization.load_pem_private_key(pem, None)
                assert isinstance(key, PrivateKey)
                yield key


def forms(key: PrivateKey) -> Iterator[bytes]:
    """How a key could show: its secret number raw, in hex, and inside of its DER as base64 at each offset."""
    numbers = key.private_numbers()
    secret = numbers.private_value if hasattr(numbers, "private_value") else numbers.d
    raw = secret.to_bytes((secret.bit_length() + 7) // 8)
    yield from shapes(raw)


def shapes(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield str(int.from_bytes(raw)).encode()
    for offset in range(3):
        written = base64.b64encode(raw[offset:])
        yield written[: len(written) // 4 * 4 - 4]  # without what depends on the bytes behind it


async def sealed_keys(up: Up) -> list[PrivateKey]:
    """The authorities' keys, opened as Citadel opens them."""
    async with Store.open(f"sqlite:///{up.home}/db/citadel.db", writer="test") as store:
        ring = Keyring(store.authorities, file_kek(up.home / "keys" / "kek"))
        return [await ring.open(a.skid) for a in await store.authorities.authorities() if a.key_source != "none"]


def everything_written(up: Up) -> dict[Path, bytes]:
    """All files of its home (the log among them), but the key-encryption key's own."""
    found = [p for p in up.home.rglob("*") if p.is_file() and p != up.home / "keys" / "kek"]
    return {path: path.read_bytes() for path in found}


def assert_silent(up: Up, keys: list[PrivateKey], kek: bytes, before: dict[Path, bytes]) -> None:
    files = {**before, **{path.with_suffix(".later"): content for path, content in everything_written(up).items()}}
    assert any(path.name == "citadel.db" for path in files)
    assert any(b"issued" in content for path, content in files.items() if path.name == "log")
    secrets = [shape for key in keys for shape in forms(key)] + list(shapes(kek))
    for path, content in files.items():
        for marker in _MARKERS:
            assert marker not in content, path
        for secret in secrets:
            assert secret not in content, path


def test_no_key_shows_in_log_or_database_of_a_run_with_a_root_of_ours(tmp_path: Path) -> None:
    with running(tmp_path / "c", QUICK + _DEBUG) as up:
        up.register("/web", me(), "--ttl", "3s")
        keys = list(workload_keys(up, 3))
        up.run("svid", "list", "-o", "json")
        up.run("status", "--clients")
        running_files = everything_written(up)  # with the write-ahead log of SQLite
    keys += asyncio.run(sealed_keys(up))
    assert len(keys) == 3 + 2
    kek = base64.b64decode((up.home / "keys" / "kek").read_bytes())
    assert_silent(up, keys, kek, running_files)


def test_no_key_shows_in_log_or_database_of_a_run_with_a_plugged_in_ca(tmp_path: Path) -> None:
    folder, root = tmp_path / "cacerts", make_ca("root")
    first, second, waits = make_ca("one", root), make_ca("two", root), make_ca("three", make_ca("another root"))
    plug(folder, first)
    settings = f'{QUICK}{_DEBUG}[root]\nkind = "cacerts"\ncacerts_dir = "{folder}"\n[jobs]\nplugged_ca = "1s"\n'
    with running(tmp_path / "c", settings) as up:
        up.register("/web", me(), "--ttl", "3s")
        keys = list(workload_keys(up, 2))
        for ca, faulty in ((second, False), (second, True), (waits, False)):
            plug(folder, ca, ca_key=ca.key_pem[:-60] if faulty else ca.key_pem)
            keys += workload_keys(up, 2)
        running_files = everything_written(up)
    keys += asyncio.run(sealed_keys(up))
    keys += [ca.key for ca in (first, second, waits)]
    kek = base64.b64decode((up.home / "keys" / "kek").read_bytes())
    assert_silent(up, keys, kek, running_files)


def test_another_key_encryption_key_is_told_at_start_which_one_is_needed(tmp_path: Path) -> None:
    with running(tmp_path / "c", QUICK) as up:
        path = up.home / "keys" / "kek"
        right = path.read_bytes()
    path.write_bytes(base64.b64encode(os.urandom(32)))
    ended = up.run("up", check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    wanted, held = re.search(r"is sealed under (local:\w+), and we hold (local:\w+)", ended.stderr).groups()  # type: ignore[union-attr]  # else it fails here
    assert held == file_kek(path).id
    assert "put back the key file that belongs to this database" in ended.stderr
    path.write_bytes(right)
    assert wanted == file_kek(path).id
    up.start()
    up.end()


def test_a_key_encryption_key_with_wrong_permissions_is_refused_with_the_mend(tmp_path: Path) -> None:
    up = Up(tmp_path / "c", QUICK)
    path = up.home / "keys" / "kek"
    path.chmod(0o640)
    ended = up.run("up", check=False)
    assert ended.returncode != 0
    assert f"run: chmod 600 {path}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_credential_of_systemd_is_the_key_encryption_key(tmp_path: Path) -> None:
    """As LoadCredential= leaves it: a folder for this service alone, and a file that nobody can write."""
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    up = Up(
        tmp_path / "c", QUICK + '[keys]\nkek = "credential:citadel-kek"\n', {"CREDENTIALS_DIRECTORY": str(credentials)}
    )
    (up.home / "keys" / "kek").rename(credentials / "citadel-kek")
    (credentials / "citadel-kek").chmod(0o400)
    up.start()
    assert up.json("status")["ready"]
    up.end()
    alone = Up(up.home)
    ended = alone.run("up", check=False)
    assert ended.returncode != 0
    assert "CREDENTIALS_DIRECTORY is not set" in ended.stderr
    assert "LoadCredential=" in ended.stderr


def test_the_search_would_find_a_key_in_any_of_its_forms() -> None:
    for key in (make_ca("x").key, rsa.generate_private_key(65537, 2048)):
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for prefix in (b"", b"a", b"ab"):
            for text in (der, der.hex().encode(), base64.b64encode(prefix + der)):
                assert any(form in text for form in forms(key))
