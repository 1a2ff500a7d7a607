"""A real `citadel up` that is started while there is no server, in each of the three modes: what can be is there, the
rest waits and says for what, and is done when the server is back and unsealed.

Over a real OpenBao. Over the double, which hangs instead: tests/interop/test_vault.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.vault import Need, leaf_issuer_needs, pki_needs, transit_signer_needs
from tests.interop.test_vault import root_in_vault, signed_in, vault_check, wait_for
from tests.support import desk
from tests.support import up as ups
from tests.support.certificates import Ca
from tests.support.vault import Vault, running_tls
from tests.support.vault_modes import NAMES, PROFILE

pytestmark = pytest.mark.timeout(180)


def configured(mode: str, vault: Vault) -> str:
    mount = vault.mount("transit" if mode == "transit" else "pki")
    needs: list[Need] = []
    text = ""
    if mode == "transit":
        needs = transit_signer_needs(mount)
        text = f'[signer]\nkind = "vault-transit"\nvault_mount = "{mount}"\n'
    else:
        root = vault.new_root(mount)
        needs, text = pki_needs(mount, root), root_in_vault(mount, root)
        if mode == "pki":
            leaves, issuer = vault.new_leaf_issuer(mount, root, PROFILE)
            needs = [*needs, *leaf_issuer_needs(leaves, issuer, "citadel")]
            signer = f'vault_mount = "{leaves}"\nvault_issuer = "{issuer}"\nvault_role = "citadel"\n'
            text += f'[signer]\nkind = "vault-pki"\n{signer}'
    return signed_in(vault, needs, text).replace("[vault]\n", f'[vault]\nca_file = "{vault.ca}"\n')


@pytest.mark.parametrize("mode", NAMES)
def test_a_first_start_and_a_later_one_without_a_server(mode: str, tmp_path: Path) -> None:
    clients = Ca("clients").certificate.public_bytes(Encoding.PEM)
    with running_tls("bao", tmp_path, clients) as vault:
        text = configured(mode, vault)
        vault.kill()
        with ups.running(tmp_path / "c", text) as up:
            waiting = desk.status(up)["waiting"]
            assert any("cannot be reached" in one for one in waiting), waiting
            vault.start_again()
            wait_for(lambda: "is sealed" in vault_check(up)["reason"], "status says that it is sealed")
            vault.unseal()
            up.register("/web", ups.me())
            with ups.Workload(up.workload_socket, "spiffe://example.org/web") as workload:
                assert workload.take(40)
            vault.kill()
            up.end()
            up.start()
            assert up.run("bundle", "show").stdout
            down = wait_for(lambda: not (one := vault_check(up))["ok"] and one, "it is told")
            with ups.Workload(up.workload_socket, "spiffe://example.org/web") as workload:
                if mode == "root":
                    assert "certificates are issued from what we hold until" in down["reason"]
                    assert workload.take()
                else:
                    assert "no certificates are issued meanwhile" in down["reason"]
                    assert workload.nothing_comes(0.5)
                vault.start_again()
                vault.unseal()
                assert mode == "root" or workload.take(40)
            wait_for(lambda: vault_check(up)["ok"], "status says so")
