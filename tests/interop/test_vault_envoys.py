"""Real Envoys under load while the root moves from disk to Vault, and while Vault is sealed for longer than
certificates live: nothing fails.

It takes a minute, so it runs only when it is asked for: CITADEL_VAULT_ENVOYS=1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from citadel.vault import hcl, pki_needs, session_needs
from tests.interop.test_rotation import ROTATION_SECONDS, SETTINGS
from tests.support import desk
from tests.support.envoys import mesh, renewed, wait_for
from tests.support.load import Load
from tests.support.vault import KINDS, running

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(400),
    pytest.mark.skipif("CITADEL_VAULT_ENVOYS" not in os.environ, reason="CITADEL_VAULT_ENVOYS is not set"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_from_disk_to_vault_and_an_outage_of_more_than_three_lifetimes_lose_nothing(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path) as vault:
        mount = vault.mount("pki")
        issuer = vault.new_root(mount)
        approle = vault.approle(hcl([*session_needs(), *pki_needs(mount, issuer)]), token_ttl="1h")
        configured = f"""
{SETTINGS}
[root]
vault_mount = "{mount}"
vault_issuer = "{issuer}"
[vault]
addresses = ["{vault.address}"]
check = "1s"
timeout = "2s"
[vault.auth]
method = "approle"
mount = "{approle.mount}"
role_id = "{approle.role_id}"
secret_id_file = "file:{approle.secret_id.path}"
"""
        with mesh(configured) as made:
            pair = made.pair("web", ttl="8s")
            with Load(pair.listeners, per_second=15) as load:
                load.wait_for(5)
                before = pair.failures()
                made.up.run("root", "rotate", "--to", "vault", "--detach")
                wait_for("the rotation's end", lambda: not desk.rotations(made.up), ROTATION_SECONDS * 3)
                (root,) = [
                    one for one in desk.authorities(made.up) if (one["kind"], one["state"]) == ("root", "active")
                ]
                assert root["key_source"] == "vault"
                (vault.seal if vault.double else vault.pause)()  # a dev server's unseal key is nobody's
                try:
                    renewed(pair.both, times=7, seconds=90)  # renewed at half of their life
                finally:
                    (vault.unseal if vault.double else vault.resume)()
                renewed(pair.both)
                load.wait_for(10)
                assert load.failed == {}
                assert pair.failures() == before
