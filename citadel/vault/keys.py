"""VaultKeys: whatever of Vault signs for an issuing CA, found by the reference that was written down with it."""

from __future__ import annotations

from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, KeySource
from citadel.ca.ports import IssuingKey, LeafSigner
from citadel.errors import FailedPrecondition
from citadel.vault.session import Session
from citadel.vault.transit_signer import TransitKeys


class VaultKeys:
    """Contract: ports.IssuingKeys. New keys are made in `transit`; None: none are."""

    def __init__(self, session: Session, transit: str | None) -> None:
        self._transit = TransitKeys(session, transit or "")
        self._makes = transit is not None

    @property
    def source(self) -> KeySource:
        return KeySource.VAULT

    async def make(self, kind: KeyType) -> IssuingKey:
        if not self._makes:
            raise FailedPrecondition(
                "no mount of Vault's transit engine is configured", mend='set signer.kind = "vault-transit"'
            )
        return await self._transit.make(kind)

    async def signer(self, authority: Authority) -> LeafSigner:
        return await self._transit.signer(authority)
