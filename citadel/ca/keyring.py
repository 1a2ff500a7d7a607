"""Keyring: authorities' private keys, sealed for the store and opened from it."""

from __future__ import annotations

import asyncio

from cryptography.hazmat.primitives import serialization

from citadel.ca import keys
from citadel.ca.model import SealedKey, Skid
from citadel.ca.ports import AuthorityStore, KeyEncryptionKey
from citadel.errors import FailedPrecondition, InternalFault


class Keyring:
    """Seals and opens private keys under one key-encryption key. Each is bound to its SKID: moved to another row of the
    store, it does not open."""

    def __init__(self, store: AuthorityStore, kek: KeyEncryptionKey) -> None:
        self._store = store
        self._kek = kek

    async def seal(self, skid: Skid, key: keys.PrivateKey) -> SealedKey:
        """The key as it may lie in the store: PKCS #8 in DER, encrypted."""
        plain = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return SealedKey(skid, self._kek.id, await self._kek.seal(plain, _context(skid)))

    async def holds(self, skid: Skid) -> bool:
        """Whether its key in the store is sealed under our key-encryption key. Raises NotFound if none is there."""
        return self._kek.holds((await self._store.sealed_key(skid)).kek_id)

    async def open(self, skid: Skid) -> keys.PrivateKey:
        """Raises NotFound; FailedPrecondition if it was sealed under another key-encryption key, or is damaged."""
        sealed = await self._store.sealed_key(skid)
        if not self._kek.holds(sealed.kek_id):
            raise FailedPrecondition(
                f"the key of authority {skid} is sealed under {sealed.kek_id}, and we hold {self._kek.id}",
                mend="put back the key file that belongs to this database",
            )
        plain = await self._kek.open(sealed.ciphertext, _context(skid))
        try:
            key = serialization.load_der_private_key(plain, None)
        except (ValueError, TypeError):  # without the cause: it may show what was sealed
            raise InternalFault(f"what is sealed as the key of authority {skid} is no private key") from None
        if not isinstance(key, keys.PrivateKey):
            raise InternalFault(f"the sealed key of authority {skid} is neither EC nor RSA")
        return key


async def new_key(kind: keys.KeyType) -> keys.PrivateKey:
    """A new private key. RSA takes seconds, so not on the event loop."""
    return await asyncio.to_thread(keys.generate, kind)


def _context(skid: Skid) -> bytes:
    return b"citadel authority key " + skid.hex.encode()
