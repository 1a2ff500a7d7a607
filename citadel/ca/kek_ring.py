"""The key-encryption keys that we hold at once while one takes the place of another."""

from __future__ import annotations

from citadel.ca.ports import KeyEncryptionKey
from citadel.errors import FailedPrecondition


class KekRing:
    """Contract: ports.KeyEncryptionKey. Opens under each of its keys, and seals under one of them.

    `staged` is the key that is to take the place of `current`; `previous` the one whose place `current` took, kept
    until the operator forgets it.
    """

    def __init__(
        self,
        current: KeyEncryptionKey,
        *,
        staged: KeyEncryptionKey | None = None,
        previous: KeyEncryptionKey | None = None,
    ) -> None:
        self.current = current
        self.staged = staged
        self.previous = previous
        self._sealing = current

    @property
    def id(self) -> str:
        """Of the key that seals."""
        return self._sealing.id

    def holds(self, kek_id: str) -> bool:
        return any(kek.id == kek_id for kek in self._keys())

    def turn_to_staged(self) -> KeyEncryptionKey:
        """Seal under the staged key from now on. Raises FailedPrecondition if there is none."""
        if self.staged is None:
            raise FailedPrecondition("no new key-encryption key is staged", mend="run: citadel keys rekey")
        self._sealing = self.staged
        return self.staged

    def promoted(self) -> None:
        """The staged key has taken the place of the current one."""
        if self.staged is not None:
            self.previous, self.current, self.staged = self.current, self.staged, None
            self._sealing = self.current

    def forget(self) -> None:
        self.previous = None

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        return await self._sealing.seal(plaintext, context)

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        others = [kek for kek in self._keys() if kek is not self._sealing]
        for kek in others:
            try:
                return await kek.open(ciphertext, context)
            except FailedPrecondition:
                continue  # sealed under another one
        return await self._sealing.open(ciphertext, context)  # whose words are the ones to read if none does

    def _keys(self) -> list[KeyEncryptionKey]:
        return [kek for kek in (self.current, self.staged, self.previous) if kek is not None]

    def __repr__(self) -> str:
        return f"KekRing({self.current.id})"


__all__ = ["KekRing"]
