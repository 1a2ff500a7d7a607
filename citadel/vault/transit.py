"""Vault's transit engine as a key-encryption key: what is sealed with it opens only while Vault permits it (API docs).

Envelope: Vault encrypts a data key of 32 bytes that is used once; the private key itself is sealed here with it
(AES-256-GCM), bound to its context, and never goes to Vault.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from citadel.errors import FailedPrecondition, NotFound
from citadel.vault.findings import Finding
from citadel.vault.key_watch import kek_findings
from citadel.vault.session import Session
from citadel.vault.transit_keys import common_faults

_MARK = b"\x02"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_KINDS = ("aes256-gcm96", "chacha20-poly1305")
_WRAPPED = re.compile(r"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]{24,4096}={0,2}")
_RESTORE = "restore a backup"


class TransitKek:
    """Contract: ca.ports.KeyEncryptionKey. The key is looked at before its first use in this process.

    Ciphertext: a mark, the length of the wrapped data key (2 bytes), the wrapped data key as Vault gave it, nonce,
    AES-256-GCM output; everything before the nonce is authenticated with the context.
    """

    def __init__(self, session: Session, mount: str, name: str) -> None:
        self._session = session
        self._mount = mount
        self._name = name
        self._id = f"vault-transit:{mount}/{name}"
        self._fits = False
        self._oldest = 0  # the lowest version under which we saw something sealed; 0: nothing

    @property
    def id(self) -> str:
        return self._id

    def holds(self, kek_id: str) -> bool:
        return kek_id == self._id

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Raises Unavailable, and what else Session.call does. What Vault gave back was opened again before anybody
        relies on it: else a key could be lost by an answer that looks like a ciphertext."""
        await self.look()
        key = os.urandom(_KEY_BYTES)
        body = {"plaintext": base64.b64encode(key).decode()}
        wrapped = (await self._session.call("post", f"{self._mount}/encrypt/{self._name}", body)).data.get("ciphertext")
        if not isinstance(wrapped, str) or not _WRAPPED.fullmatch(wrapped):
            raise FailedPrecondition(f"{self._where()} gave no ciphertext when a key was to be sealed")
        if not await self._opens(wrapped, key):
            raise FailedPrecondition(
                f"{self._where()} does not open what it sealed a moment ago, so nothing is sealed with it",
                mend="see what answers in Vault's place, and the key's min_decryption_version",
            )
        self._saw(wrapped)
        head = _MARK + len(wrapped).to_bytes(2) + wrapped.encode()
        nonce = os.urandom(_NONCE_BYTES)
        return head + nonce + AESGCM(key).encrypt(nonce, plaintext, head + context)

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        """Raises Unavailable while Vault cannot be asked, and FailedPrecondition as the port says."""
        size = int.from_bytes(ciphertext[1:3])
        head, rest = ciphertext[: 3 + size], ciphertext[3 + size :]
        wrapped = head[3:].decode("ascii", "replace")
        if head[:1] != _MARK or not _WRAPPED.fullmatch(wrapped) or len(rest) < _NONCE_BYTES + 16:
            raise FailedPrecondition(f"a key sealed under {self._id} is damaged, or of a newer Citadel", mend=_RESTORE)
        self._saw(wrapped)
        await self.look()
        try:
            reply = await self._session.call("post", f"{self._mount}/decrypt/{self._name}", {"ciphertext": wrapped})
        except FailedPrecondition as error:
            raise FailedPrecondition(
                f"the key-encryption key {self._id} does not open this private key: {error.message}",
                mend="name the transit key that belongs to this database (keys.kek)",
            ) from None
        try:
            key = base64.b64decode(str(reply.data.get("plaintext")), validate=True)
            return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + context)
        except (InvalidTag, binascii.Error, ValueError):
            raise FailedPrecondition(
                f"the key-encryption key {self._id} opens this key, but it was sealed for another place, or is damaged",
                mend=_RESTORE,
            ) from None

    async def _opens(self, wrapped: str, key: bytes) -> bool:
        try:
            reply = await self._session.call("post", f"{self._mount}/decrypt/{self._name}", {"ciphertext": wrapped})
            opened = base64.b64decode(str(reply.data.get("plaintext")), validate=True)
        except (FailedPrecondition, ValueError):  # binascii.Error is one
            return False
        return hmac.compare_digest(opened, key)

    async def look(self) -> None:
        """Look at the key, unless that was done. Raises FailedPrecondition if its kind does not fit, or it can leave
        Vault or be deleted; what Session.call raises."""
        if self._fits:
            return
        facts = (await self._session.call("get", f"{self._mount}/keys/{self._name}")).data
        if faults := _faults(facts):
            raise FailedPrecondition(
                f"{self._where()} {'; it '.join(faults)}",
                mend=f"make another one: bao write -f {self._mount}/keys/NAME, and name it in keys.kek",
            )
        self._fits = True

    async def examine(self) -> list[Finding]:
        """What became of the key, for the watch. Raises what Session.call does."""
        try:
            facts: Mapping[str, object] | None = (
                await self._session.call("get", f"{self._mount}/keys/{self._name}")
            ).data
        except NotFound:
            facts = None
        unfit = [] if facts is None else _faults(facts)
        if facts is None or unfit:
            self._fits = False
        return kek_findings(facts, self._where(), self._name, self._oldest, unfit)

    def _saw(self, wrapped: str) -> None:
        version = int(wrapped.split(":")[1][1:])
        self._oldest = min(version, self._oldest or version)

    def __repr__(self) -> str:
        return f"TransitKek({self._id})"

    def _where(self) -> str:
        return f"the transit key {self._name} at {self._mount} in Vault"


def _faults(facts: Mapping[str, object]) -> list[str]:
    found = common_faults(facts, _KINDS)
    if facts.get("derived"):
        found.append("is derived, which needs a context of Vault's own")
    return found
