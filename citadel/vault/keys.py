"""VaultKeys: whatever of Vault signs for an issuing CA, found by the reference that was written down with it."""

from __future__ import annotations

from citadel.ca.certificates import parse
from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, KeySource
from citadel.ca.ports import IssuingKey, LeafSigner
from citadel.clock import Clock
from citadel.errors import FailedPrecondition
from citadel.vault.leaf_issuer import PkiCertifier
from citadel.vault.pki import IssuerReference
from citadel.vault.session import Session
from citadel.vault.transit_signer import TransitKeys


class VaultKeys:
    """Contract: ports.IssuingKeys. New keys are made in the mount `transit`; None: none are. `role`: by which leaves
    are made in Vault's PKI, where that makes them."""

    def __init__(self, session: Session, clock: Clock, *, transit: str | None = None, role: str = "") -> None:
        self._session = session
        self._clock = clock
        self._transit = TransitKeys(session, transit or "")
        self._makes = transit is not None
        self._role = role

    @property
    def source(self) -> KeySource:
        return KeySource.VAULT

    def makes_such(self, authority: Authority) -> bool:
        return self._transit.makes_such(authority)

    async def make(self, kind: KeyType) -> IssuingKey:
        if not self._makes:
            raise FailedPrecondition(
                "no mount of Vault's transit engine is configured", mend='set signer.kind = "vault-transit"'
            )
        return await self._transit.make(kind)

    async def signer(self, authority: Authority) -> LeafSigner:
        if not authority.key_ref.startswith("pki:"):
            return await self._transit.signer(authority)
        if not self._role:
            raise FailedPrecondition(
                f"certificates of the issuing CA {authority.skid} are made by Vault, and no role is configured",
                mend="set signer.vault_role again; it is needed until another issuing CA signs",
            )
        where = IssuerReference.parse(authority.key_ref)
        return PkiCertifier(self._session, where, self._role, parse(authority.certificate.der), self._clock)
