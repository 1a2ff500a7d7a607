"""Real Envoys under load while the root moves from disk to Vault, and while Vault is sealed for longer than
certificates live: nothing fails.

It takes a minute, so it runs only when it is asked for: CITADEL_VAULT_ENVOYS=1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.vault import AppRoleSignIn, hcl, pki_needs, session_needs
from tests.interop.test_rotation import ROTATION_SECONDS, SETTINGS
from tests.support import desk
from tests.support.certificates import Ca
from tests.support.envoys import mesh, renewed, wait_for
from tests.support.load import Load
from tests.support.vault import KINDS, Vault, running_tls

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(400),
    pytest.mark.skipif("CITADEL_VAULT_ENVOYS" not in os.environ, reason="CITADEL_VAULT_ENVOYS is not set"),
]


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    """Sealable, on TLS."""
    with running_tls(request.param, tmp_path, Ca("clients").certificate.public_bytes(Encoding.PEM)) as one:
        yield one


def configured(vault: Vault, mount: str, issuer: str, approle: AppRoleSignIn, kind: str = "disk") -> str:
    return f"""
{SETTINGS}
[root]
kind = "{kind}"
vault_issuer = "{issuer}"
vault_mount = "{mount}"
[vault]
addresses = ["{vault.address}"]
ca_file = "{vault.ca}"
check = "1s"
timeout = "2s"
[vault.auth]
method = "approle"
mount = "{approle.mount}"
role_id = "{approle.role_id}"
secret_id_file = "file:{approle.secret_id.path}"
"""


def permitted(mount: str, *issuers: str) -> str:
    needs = [*session_needs(), *(need for issuer in issuers for need in pki_needs(mount, issuer))]
    return hcl(list(dict.fromkeys(needs)))


def told(what: str, load: Load) -> None:
    """The figures of a run are what it is run for."""
    print(f"{what}: {load.ok} requests answered, {sum(tally.failed for tally in load.tallies.values())} failed")


def test_from_disk_to_vault_and_an_outage_of_more_than_three_lifetimes_lose_nothing(vault: Vault) -> None:
    mount = vault.mount("pki")
    issuer = vault.new_root(mount)
    approle = vault.approle(permitted(mount, issuer), token_ttl="1h")
    with mesh(configured(vault, mount, issuer, approle)) as made:
        pair = made.pair("web", ttl="8s")
        with Load(pair.listeners, per_second=15) as load:
            load.wait_for(5)
            before = pair.failures()
            made.up.run("root", "rotate", "--to", "vault", "--detach")
            wait_for("the rotation's end", lambda: not desk.rotations(made.up), ROTATION_SECONDS * 3)
            (root,) = [one for one in desk.authorities(made.up) if (one["kind"], one["state"]) == ("root", "active")]
            assert root["key_source"] == "vault"
            vault.seal()
            try:
                renewed(pair.both, times=7, seconds=90)  # renewed at half of their life
            finally:
                vault.unseal()
            renewed(pair.both)
            load.wait_for(10)
            told("from disk to Vault, and sealed", load)
            assert load.failed == {}
            assert pair.failures() == before


def test_vaults_own_root_is_rotated_and_nothing_is_lost(vault: Vault) -> None:
    mount = vault.mount("pki")
    old = vault.new_root(mount)
    approle = vault.approle(permitted(mount, old), token_ttl="1h")
    with mesh(configured(vault, mount, old, approle, "vault")) as made:
        pair = made.pair("web", ttl="40s")
        with Load(pair.listeners, per_second=15) as load:
            load.wait_for(5)
            before = pair.failures()
            new = vault.new_root(mount, "next")
            vault.call("PUT", f"sys/policies/acl/{approle.mount}", {"policy": permitted(mount, old, new)})
            made.up.run("root", "rotate", "--to", "vault", new, "--reason", "the old one is retired", "--detach")
            wait_for("the rotation's end", lambda: not desk.rotations(made.up), ROTATION_SECONDS * 3)
            roots = {one["subject"]: one["state"] for one in desk.authorities(made.up) if one["kind"] == "root"}
            assert roots["CN=next root"] == "active"
            renewed(pair.both)
            load.wait_for(10)
            told("Vault's own root is rotated", load)
            assert load.failed == {}
            assert pair.failures() == before
