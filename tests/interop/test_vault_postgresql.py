"""A Citadel on PostgreSQL whose certificates Vault makes, and then signs with a key of transit: one after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from citadel.vault import leaf_issuer_needs, pki_needs, transit_signer_needs
from tests.interop.test_vault import is_served, root_in_vault, signed_in, wait_for
from tests.support import desk, postgres
from tests.support import up as ups
from tests.support.vault import running
from tests.support.vault_modes import PROFILE

pytestmark = pytest.mark.timeout(180)


def test_vaults_pki_and_then_transit_sign_for_a_citadel_on_postgresql(tmp_path: Path) -> None:
    with postgres.server() as url, running("bao" if shutil.which("bao") else "double", tmp_path) as vault:
        root_mount, transit = vault.mount("pki"), vault.mount("transit")
        root = vault.new_root(root_mount)
        leaf_mount, leaf = vault.new_leaf_issuer(root_mount, root, PROFILE)
        pki = f'[signer]\nkind = "vault-pki"\nvault_mount = "{leaf_mount}"\nvault_issuer = "{leaf}"\n'
        pki += 'vault_role = "citadel"\n'
        needs = [
            *pki_needs(root_mount, root),
            *leaf_issuer_needs(leaf_mount, leaf, "citadel"),
            *transit_signer_needs(transit),
        ]
        told = f'[store]\nurl = "{url}"\n{root_in_vault(root_mount, root)}{pki}'
        up = ups.Up(tmp_path / "c", signed_in(vault, needs, told))
        up.start()
        try:
            up.register("/web", ups.me())
            assert is_served(up)
            assert desk.status(up)["store"]["kind"] == "postgresql"
            (made,) = [one for one in desk.authorities(up) if one["kind"] == "issuing"]
            (served,) = up.json("svid", "list")
            assert (served["outcome"], served["authority"]) == ("issued", made["skid"])
            text = up.config.read_text().replace(pki, f'[signer]\nkind = "vault-transit"\nvault_mount = "{transit}"\n')
            up.end()
            up.config.write_text(text)
            up.start()
            wait_for(
                lambda: [
                    one
                    for one in desk.authorities(up)
                    if (one["kind"], one["state"]) == ("issuing", "active") and one["skid"] != made["skid"]
                ],
                "an issuing CA with a key of transit",
            )
            assert is_served(up)
            newest, *_ = up.json("svid", "list")
            assert newest["outcome"] == "issued"
            assert newest["authority"] != made["skid"]
            assert up.run("audit", "verify").returncode == 0
        finally:
            up.end()
