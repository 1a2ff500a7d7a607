"""An issuing CA from nothing: its key made and sealed, its certificate granted by a root; not written down yet."""

from __future__ import annotations

from datetime import datetime

from citadel.ca import keys
from citadel.ca.keyring import Keyring, new_key
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, SealedKey
from citadel.ca.ports import RootAuthority


async def new_issuing_ca(
    source: RootAuthority, root: Authority, keyring: Keyring, kind: keys.KeyType, state: AuthorityState, now: datetime
) -> tuple[Authority, SealedKey]:
    """An issuing CA under `root`, whose key is where `source` says. Raises what RootAuthority.sign_issuing_ca does."""
    private = await new_key(kind)
    grant = await source.sign_issuing_ca(root, private)
    skid = keys.skid(private.public_key())
    authority = Authority(
        skid=skid,
        kind=AuthorityKind.ISSUING,
        state=state,
        trust_domain=root.trust_domain,
        key_source=KeySource.SEALED,
        certificates=(grant.certificate,),
        root_skid=grant.root_skid,
        created_at=now,
        changed_at=now,
        chain=grant.chain,
    )
    return authority, await keyring.seal(skid, private)
