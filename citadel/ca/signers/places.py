"""KeyPlaces: new keys go where the configuration says, and old ones are used where they are."""

from __future__ import annotations

from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, KeySource
from citadel.ca.ports import IssuingKey, IssuingKeys, LeafSigner
from citadel.errors import FailedPrecondition


class KeyPlaces:
    """Contract: ports.IssuingKeys. `here` keeps them in our store; `elsewhere`, if there is any, signs for us.
    `new` is one of the two."""

    def __init__(self, here: IssuingKeys, elsewhere: IssuingKeys | None, *, new: KeySource) -> None:
        self._here = here
        self._elsewhere = elsewhere
        self._new = here if new is here.source else elsewhere

    @property
    def source(self) -> KeySource:
        return self._present(self._new).source

    def makes_such(self, authority: Authority) -> bool:
        return self._present(self._new).makes_such(authority)

    async def make(self, kind: KeyType) -> IssuingKey:
        return await self._present(self._new).make(kind)

    async def signer(self, authority: Authority) -> LeafSigner:
        if authority.key_source is not KeySource.VAULT:
            return await self._here.signer(authority)
        return await self._present(self._elsewhere).signer(authority)

    def _present(self, keys: IssuingKeys | None) -> IssuingKeys:
        if keys is None:
            raise FailedPrecondition(
                "the key of the issuing CA is in Vault, and no Vault is configured",
                mend="set vault.addresses again (docs/vault.md)",
            )
        return keys
