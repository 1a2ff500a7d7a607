"""An issuer that an operator approves: another certificate of a known root goes into the bundle, no more."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.roots import DiskRoot
from citadel.ca.rotation.approved import ApprovedIssuers
from citadel.ca.rotation.brought import How
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.rotations import Rotations
from citadel.clock import SystemClock
from citadel.errors import FailedPrecondition, InvalidInput, NotFound
from citadel.store import Store
from citadel.vault import PkiMount, VaultRoot
from tests.support.issuance import TRUST_DOMAIN
from tests.support.vault import KINDS, running

DAY = timedelta(days=1)
WISH = Wish("operator", "it was re-signed")


@pytest.mark.parametrize("kind", KINDS)
async def test_another_certificate_of_the_root_in_force_is_distributed_when_it_is_approved(
    kind: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="test") as store:
        with running(kind, tmp_path) as vault:
            mount, session = vault.mount("pki"), vault.session()
            issuer = vault.new_root(mount)
            keyring = Keyring(store.authorities, LocalKek(os.urandom(32)))
            root = VaultRoot(PkiMount(session, mount), issuer, TRUST_DOMAIN, clock, issuing_ttl=9 * DAY)
            authorities = Authorities(
                store.authorities,
                keyring,
                DiskRoot(store.authorities, keyring, clock, TRUST_DOMAIN, ttl=365 * DAY, issuing_ttl=9 * DAY),
                clock,
                TRUST_DOMAIN,
                AuthorityPolicy(9 * DAY, DAY),
                remote=root,
                wants_remote=True,
            )
            await authorities.ensure()
            approved = ApprovedIssuers(cast("Rotations", None), store.authorities, root, authorities.note_certificate)
            (before,) = (await authorities.bundle()).roots
            with pytest.raises(FailedPrecondition, match="with this certificate"):
                await approved.approve(issuer, WISH, How())
            key = vault.call("GET", f"{mount}/issuer/{issuer}")["data"]["key_id"]
            again = vault.call("POST", f"{mount}/root/generate/existing", {
                "key_ref": key, "common_name": "mesh root", "issuer_name": "again", "ttl": "17520h",
            })["data"]["issuer_id"]  # fmt: skip
            await authorities.reload_plugged()
            assert (await authorities.bundle()).roots == (before,)  # nobody said so yet
            dry = await approved.approve(again, WISH, How(dry_run=True))
            assert "would go into the trust bundle" in dry
            assert (await authorities.bundle()).roots == (before,)
            assert "is in the trust bundle" in await approved.approve(again, WISH, How())
            after = (await authorities.bundle()).roots
            assert (len(after), before in after) == (2, True)
            (known,) = [one for one in await authorities.all() if one.skid == one.root_skid]
            assert known.key_ref == f"pki:{mount}/{again}"
            for wrong, error in (("../../sys", InvalidInput), ("11111111-1111-1111-1111-111111111111", NotFound)):
                with pytest.raises(error):
                    await approved.approve(wrong, WISH, How())
            await session.close()
