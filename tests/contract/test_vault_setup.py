"""`citadel vault setup`: what it prints and what it applies give the same, and once applied nothing differs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.certificates import Ca
from tests.support.cli import CommandLine
from tests.support.vault import KINDS, Vault, running

ROOT = '[root]\nkind = "vault"\nvault_mount = "root-{own}"\n'
TRANSIT = (
    '[signer]\nkind = "vault-transit"\nvault_mount = "transit-{own}"\n[keys]\nkek = "vault-transit:kek-{own}/kek"\n'
)
PKI = '[signer]\nkind = "vault-pki"\nvault_mount = "leaf-{own}"\nvault_role = "citadel"\n'
PKI_IN_ONE = '[signer]\nkind = "vault-pki"\nvault_mount = "root-{own}"\nvault_role = "citadel"\n'
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


_ITS_OWN = ("uuid", "accessor", "keys", "options", "modified")


@dataclass
class Operator:
    vault: Vault
    folder: Path
    citadel: CommandLine

    def configured(self, own: str, modes: str, sign_in: str) -> Path:
        home = self.folder / own
        home.mkdir()
        file = home / "citadel.toml"
        file.write_text(
            f'trust_domain = "example.org"\ndata_dir = "{home}"\n{MODES[modes].format(own=own)}\n[vault]\n'
            f'addresses = ["{self.vault.address}"]\n{SIGN_INS[sign_in].format(own=own, folder=self.folder)}\n'
        )
        return file

    def setup(self, file: Path, own: str, *args: object) -> str:
        done = self.citadel(
            "vault", "setup", *args, "--config", file, "--name", f"citadel-{own}", BAO_TOKEN=self.vault.root_token
        )
        assert done.code == 0, done.err
        return done.out

    def has(self, own: str) -> dict[str, Any]:
        """What Vault has under that name, without ids and keys."""
        found = {}
        for path in (
            f"sys/mounts/root-{own}",
            f"sys/mounts/leaf-{own}",
            f"sys/mounts/transit-{own}",
            f"kek-{own}/keys/kek",
            f"leaf-{own}/roles/citadel",
            f"root-{own}/roles/citadel",
            f"sys/policies/acl/citadel-{own}",
            f"sys/auth/auth-{own}",
            f"auth/auth-{own}/config",
            f"auth/auth-{own}/role/citadel-{own}",
            f"auth/auth-{own}/role/citadel-{own}/role-id",
            f"auth/auth-{own}/role/mesh",
            f"auth/auth-{own}/certs/mesh",
        ):
            try:
                data = self.vault.call("GET", path)["data"]
            except AssertionError:
                continue
            told = {k: v.strip() if isinstance(v, str) else v for k, v in data.items() if k not in _ITS_OWN}
            found[path.replace(own, "OWN")] = ID.sub("ID", repr(told).replace(own, "OWN"))
        return found


@pytest.fixture(params=KINDS)
def operator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    with running(request.param, tmp_path) as vault:
        yield Operator(vault, tmp_path, CommandLine(monkeypatch, {"HOME": str(tmp_path)}))


def pins(modes: str) -> list[str]:
    """What the script says at its end."""
    found = ["[root] vault_issuer = '"] if modes != "transit" else []
    return [*found, "[signer] vault_issuer = '"] if modes in ("root, pki", "in one") else found


def write_token(folder: Path) -> None:
    claims = {"sub": "system:serviceaccount:mesh:citadel", "aud": ["vault"], "exp": int(time.time()) + 600}
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "token").write_text(jwt.encode(claims, key, algorithm="ES256"))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "keys.pem").write_bytes(public)
    ca = Ca("clients")
    ca.issue(folder / "own", name="citadel")
    (folder / "own" / "ca.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))


TOKEN_FILE = 'mount = "auth-{own}"\nrole = "mesh"\njwt_file = "{folder}/token"\n'
SIGN_INS = {
    "approle": '[vault.auth]\nmethod = "approle"\nmount = "auth-{own}"\nrole_id = "id-{own}"\n'
    'secret_id_file = "file:{folder}/{own}/secret"\n',
    "kubernetes": f'[vault.auth]\nmethod = "kubernetes"\n{TOKEN_FILE}',
    "jwt": f'[vault.auth]\nmethod = "jwt"\n{TOKEN_FILE}',
    "token": '[vault.auth]\nmethod = "token"\ntoken_file = "file:{folder}/{own}/token"\n',
    "cert": 'client_cert = "{folder}/own/cert.pem"\nclient_key = "{folder}/own/key.pem"\n'
    '[vault.auth]\nmethod = "cert"\nmount = "auth-{own}"\nrole = "mesh"\n',
}
MODES = {"root, transit": ROOT + TRANSIT, "root, pki": ROOT + PKI, "in one": ROOT + PKI_IN_ONE, "transit": TRANSIT}


@pytest.mark.parametrize(
    ("modes", "sign_in", "more", "told"),
    [
        ("root, transit", "approle", [], "token_max_ttl"),
        ("root, pki", "kubernetes", [], "'bound_service_account_names': ['citadel']"),
        ("in one", "cert", ["--ca", "{folder}/own/ca.pem"], "'allowed_common_names': ['citadel']"),
        ("transit", "token", [], "transit"),
        ("transit", "jwt", ["--token-issuer", "{folder}/keys.pem"], "'bound_audiences': ['vault']"),
    ],
)
def test_what_is_printed_and_what_is_applied_are_the_same(
    operator: Operator, modes: str, sign_in: str, more: list[str], told: str
) -> None:
    write_token(operator.folder)
    options = [one.format(folder=operator.folder) for one in more]
    applied, printed = secrets.token_hex(4), secrets.token_hex(4)
    file = operator.configured(applied, modes, sign_in)
    first = operator.setup(file, applied, "--apply", "--yes", *options)
    assert "+ " in first
    has = operator.has(applied)
    assert any(told in one for one in has.values()), has
    again = operator.setup(file, applied, "--apply", "--yes", *options)
    assert "nothing is to be done" in again
    script = operator.setup(operator.configured(printed, modes, sign_in), printed, "--print", *options)
    if operator.vault.double is not None:
        return  # there is no command line that speaks to it
    env = {"PATH": os.environ["PATH"], "HOME": str(operator.folder), "BAO_ADDR": operator.vault.address}
    home = operator.folder / printed
    env["BAO_TOKEN"] = operator.vault.root_token
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, cwd=home, env=env, timeout=60)
    assert done.returncode == 0, done.stderr + script
    assert operator.has(printed) == has
    differs = operator.setup(home / "citadel.toml", printed, "--apply", "--yes", *options)
    assert "nothing is to be done" in differs, differs
    assert all(one in done.stdout for one in pins(modes)), done.stdout
    if sign_in == "token":
        assert (home / "token").stat().st_mode & 0o777 == 0o600
        checked = operator.citadel("vault", "check", "--config", home / "citadel.toml", "-o", "json")
        assert {one["result"] for one in checked.json()} == {"ok"}, checked.out
    if sign_in == "approle":
        assert (home / "secret").stat().st_mode & 0o777 == 0o600
        assert ID.fullmatch((home / "secret").read_text().strip())


def test_what_somebody_changed_is_shown_and_set_back(operator: Operator) -> None:
    write_token(operator.folder)
    own = secrets.token_hex(4)
    file = operator.configured(own, "transit", "jwt")
    operator.setup(file, own, "--apply", "--yes")
    path = f"auth/auth-{own}/role/mesh"
    role = operator.vault.call("GET", path)["data"]
    operator.vault.call("POST", path, {**role, "bound_subject": "", "token_policies": ["root"]})
    shown = operator.setup(file, own, "--apply", "--yes")
    assert f"~ token_policies = root -> citadel-{own}" in shown
    assert "~ bound_subject =  -> system:serviceaccount:mesh:citadel" in shown
    assert operator.vault.call("GET", path)["data"]["token_policies"] == [f"citadel-{own}"]


@pytest.mark.parametrize(
    ("sign_in", "options", "why"),
    [
        ("kubernetes", [], "--service-account NAMESPACE/NAME"),
        ("kubernetes", ["--service-account", "mesh/*"], "--service-account NAMESPACE/NAME"),
        ("jwt", ["--subject", "x"], "--audience"),
        ("jwt", ["--subject", "x", "--audience", "y", "--token-issuer", "http://plain"], "plain http"),
        ("jwt", ["--subject", "x", "--audience", "y", "--token-issuer", "{folder}/own/ca.pem"], "public keys in PEM"),
        ("cert", [], "--ca FILE"),
        ("cert", ["--ca", "{folder}/own/cert.pem"], "did not sign"),
    ],
)
def test_a_role_that_would_let_in_anybody_is_not_made(
    operator: Operator, sign_in: str, options: list[str], why: str
) -> None:
    write_token(operator.folder)
    (operator.folder / "token").unlink()
    own = secrets.token_hex(4)
    file = operator.configured(own, "transit", sign_in)
    done = operator.citadel(
        "vault", "setup", "--apply", "--yes", "--config", file,
        *[one.format(folder=operator.folder) for one in options], BAO_TOKEN=operator.vault.root_token,
    )  # fmt: skip
    assert done.code != 0
    assert why in done.err
    assert operator.has(own) == {}
