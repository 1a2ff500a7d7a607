"""SealedKeys: the keys of issuing CAs are made here, and lie encrypted in the store. Contract: ports.IssuingKeys."""

from __future__ import annotations

from citadel.ca import keys
from citadel.ca.certificates import parse
from citadel.ca.keyring import Keyring, new_key
from citadel.ca.model import Authority, KeySource
from citadel.ca.ports import IssuingKey, Signer
from citadel.ca.signers.software import SoftwareSigner
from citadel.errors import InternalFault


class SealedKeys:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @property
    def source(self) -> KeySource:
        return KeySource.SEALED

    def makes_such(self, authority: Authority) -> bool:
        return authority.key_source is KeySource.SEALED

    async def make(self, kind: keys.KeyType) -> IssuingKey:
        private = await new_key(kind)
        sealed = await self._keyring.seal(keys.skid(private.public_key()), private)
        return IssuingKey(private, KeySource.SEALED, sealed=sealed)

    async def signer(self, authority: Authority) -> Signer:
        private = await self._keyring.open(authority.skid)
        if private.public_key() != parse(authority.certificate.der).public_key():
            raise InternalFault(f"the sealed key of authority {authority.skid} is not the key of its certificate")
        return SoftwareSigner(private)
