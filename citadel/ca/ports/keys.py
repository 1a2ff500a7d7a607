"""What encrypts private keys at rest."""

from __future__ import annotations

from typing import Protocol


class KeyEncryptionKey(Protocol):
    """Encrypts private keys at rest (envelope: the caller's bytes are small). Implementation: kek.LocalKek, from a 0600
    file (kek.file_kek) or a credential of systemd (kek.credential_kek); kek_ring.KekRing.
    Contract: tests/contract/test_kek.py.
    """

    @property
    def id(self) -> str:
        """Names the key without revealing it; stored beside each ciphertext."""

    def holds(self, kek_id: str) -> bool:
        """Whether it opens what was sealed under the key of that name."""

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt and authenticate `plaintext`, bound to `context`. Fresh nonce each time."""

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        """The inverse. Raises FailedPrecondition if the key, the context or the ciphertext is not the one sealed."""
