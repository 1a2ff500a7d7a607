"""`citadel vault check`: in every mode it names what is missing and what is too wide, and the policy that it prints
mends both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel.vault import LeafProfile
from tests.support.cli import CommandLine
from tests.support.issuance import TRUST_DOMAIN
from tests.support.vault import KINDS, Vault, running

PROFILE = LeafProfile(TRUST_DOMAIN, timedelta(hours=24), timedelta(hours=1), timedelta(seconds=60), "ec", 256)
ALL = '"create", "read", "update", "patch", "delete", "list", "sudo"'
NOTHING = 'path "auth/token/lookup-self" {\n  capabilities = ["read"]\n}\n'


@dataclass
class Checked:
    vault: Vault
    folder: Path
    citadel: CommandLine
    modes: str
    needed: tuple[str, ...]  # ends of paths

    def __call__(self, policy: str) -> tuple[int, list[dict[str, Any]], str]:
        """Exit status, findings and the policy that is printed, for a token with that one."""
        made = self.vault.approle(policy, token_ttl="1h")
        file = self.folder / f"{made.mount}.toml"
        file.write_text(
            f'trust_domain = "{TRUST_DOMAIN}"\ndata_dir = "{self.folder}"\n{self.modes}\n[vault]\n'
            f'addresses = ["{self.vault.address}"]\n[vault.auth]\nmethod = "approle"\nmount = "{made.mount}"\n'
            f'role_id = "{made.role_id}"\nsecret_id_file = "file:{made.secret_id.path}"\n'
        )
        table = self.citadel("vault", "check", "--config", file)
        found = self.citadel("vault", "check", "--config", file, "-o", "json")
        assert table.code == found.code
        _, _, printed = table.err.partition("The least policy for this configuration:\n")
        return found.code, found.json(), printed.strip() + "\n"


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with running(request.param, tmp_path) as one:
        yield one


@pytest.fixture(params=["root", "root and leaves", "keys", "root and keys"])
def check(request: pytest.FixtureRequest, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    modes, needed = "", []
    if "root" in request.param:
        mount = vault.mount("pki")
        issuer = vault.new_root(mount)
        modes += f'[root]\nkind = "vault"\nvault_mount = "{mount}"\nvault_issuer = "{issuer}"\n'
        needed.append(f"{mount}/issuer/{issuer}/json")
        if "leaves" in request.param:
            leaf_mount, leaf = vault.new_leaf_issuer(mount, issuer, PROFILE)
            modes += f'[signer]\nkind = "vault-pki"\nvault_mount = "{leaf_mount}"\nvault_issuer = "{leaf}"\n'
            modes += 'vault_role = "citadel"\n'
            needed.append(f"{leaf_mount}/issuer/{leaf}/sign/citadel")
        else:
            needed.append(f"{mount}/issuer/{issuer}/sign-intermediate")
    if "keys" in request.param:
        signer, kek = vault.mount("transit"), vault.mount("transit")
        vault.call("POST", f"{kek}/keys/kek", {})
        modes += (
            f'[signer]\nkind = "vault-transit"\nvault_mount = "{signer}"\n[keys]\nkek = "vault-transit:{kek}/kek"\n'
        )
        needed += [f"{signer}/keys/+", f"{signer}/sign/+", f"{kek}/encrypt/kek", f"{kek}/decrypt/kek"]
    return Checked(vault, tmp_path, CommandLine(monkeypatch, {"HOME": str(tmp_path)}), modes, tuple(needed))


def test_what_is_missing_is_named_and_what_is_printed_mends_it(check: Checked) -> None:
    code, found, policy = check(NOTHING)
    assert code == 1
    missing = {one["what"] for one in found if one["result"] == "fail" and "missing: " in one["found"]}
    # A real one tells anybody of its issuers, whatever the policy says.
    assert missing >= {path for path in check.needed if not path.endswith("/json")}
    code, found, _ = check(policy)
    assert (code, {one["result"] for one in found}) == (0, {"ok"}), found


def test_what_is_too_wide_is_named_and_what_is_printed_mends_it(check: Checked) -> None:
    code, found, policy = check(f'path "*" {{\n  capabilities = [{ALL}]\n}}\n')
    wide = {one["what"]: one["found"] for one in found if "too wide: " in one["found"]}
    assert code == 0
    assert "sudo" in wide["sys/policies/acl/citadel-probe"]
    assert "auth/token/create" in wide
    assert all("sudo" in wide[path] for path in check.needed), found
    code, found, _ = check(policy)
    assert (code, {one["result"] for one in found}) == (0, {"ok"}), found


def test_a_root_token_is_warned_of_once(check: Checked) -> None:
    token = check.vault.secret(check.vault.root_token)
    file = check.folder / "root.toml"
    file.write_text(
        f'trust_domain = "{TRUST_DOMAIN}"\ndata_dir = "{check.folder}"\n{check.modes}\n[vault]\n'
        f'addresses = ["{check.vault.address}"]\n[vault.auth]\nmethod = "token"\ntoken_file = "file:{token.path}"\n'
    )
    done = check.citadel("vault", "check", "--config", file)
    warned = [line for line in done.out.splitlines() if line.startswith("warn")]
    assert len(warned) == 1, done.out
    assert "may do everything in Vault" in " ".join(done.out.split())
    assert "path " in done.err
    assert check.vault.root_token not in done.out + done.err
