"""A real `citadel up` over three real nodes of OpenBao, where every certificate is made: the active one is killed, then
there is none, then there is one again; nobody restarts Citadel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citadel.vault import leaf_issuer_needs, pki_needs
from tests.interop.test_vault import root_in_vault, signed_in, vault_check, wait_for
from tests.support import desk
from tests.support import up as ups
from tests.support.vault_cluster import cluster
from tests.support.vault_modes import PROFILE

pytestmark = pytest.mark.timeout(240)


def test_citadel_goes_to_whichever_node_is_active_and_says_when_there_is_none(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        vault = made.operator
        root_mount = vault.mount("pki")
        root = vault.new_root(root_mount)
        mount, issuer = vault.new_leaf_issuer(root_mount, root, PROFILE)
        signer = f'[signer]\nkind = "vault-pki"\nvault_mount = "{mount}"\nvault_issuer = "{issuer}"\n'
        needs = [*pki_needs(root_mount, root), *leaf_issuer_needs(mount, issuer, "citadel")]
        text = signed_in(vault, needs, root_in_vault(root_mount, root) + signer + 'vault_role = "citadel"\n')
        listed = ", ".join(f'"{one}"' for one in made.addresses)
        with ups.running(tmp_path / "c", text.replace(f'["{vault.address}"]', f"[{listed}]")) as up:
            assert up.json("vault", "check")
            with waits_for_a_certificate(up, "first") as first:
                assert first.take(20)
            active = made.active()
            active.kill()
            with waits_for_a_certificate(up, "second") as second:
                assert second.take(40)  # it waits, and is served when another node is active
            wait_for(lambda: vault_check(up)["ok"], "status says so")
            assert desk.status(up)["vault"]["address"] in set(made.addresses) - {active.api}
            made.active().kill()  # what is left has no majority
            with waits_for_a_certificate(up, "third") as third:
                down = wait_for(lambda: not (one := vault_check(up))["ok"] and one, "it is told")
                assert "no certificates are issued meanwhile" in down["reason"]
                assert third.nothing_comes(1)
                active.start()
                active.unseal()
                assert third.take(60)
            wait_for(lambda: vault_check(up)["ok"], "status says so")
            assert {one["outcome"] for one in up.json("svid", "list")} <= {"issued", "failed", "unknown"}


@contextmanager
def waits_for_a_certificate(up: ups.Up, name: str) -> Iterator[ups.Workload]:
    """A workload that Citadel has none for yet."""
    up.register(f"/{name}", ups.me())
    with ups.Workload(up.workload_socket, f"spiffe://example.org/{name}") as workload:
        yield workload
