"""The key-encryption key as commands on backups have it: to prove where one comes from, and to check that proof."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from citadel.backup import origin
from citadel.backup.origin import Open, Seal
from citadel.ca.kek_place import CredentialPlace, FilePlace
from citadel.ca.ports import KeyEncryptionKey
from citadel.clock import SystemClock
from citadel.config import SecretSource, Settings, TransitKey
from citadel.errors import CitadelError, FailedPrecondition


class OriginKey:
    """From a file or a credential it is loaded once; one that Vault keeps is asked for there, each time."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self._settings = settings
        self._env = env
        self._key: KeyEncryptionKey | None = None
        self.why = ""  # it is not to be had here
        try:
            if isinstance(source := settings.keys.kek, SecretSource):
                self._key = self._load(source)
        except CitadelError as error:
            self.why = error.sentence()

    def seal(self) -> Seal | None:
        """None, and `why`, if it is not to be had now."""
        if not self.why:
            try:
                asyncio.run(self._look())
            except CitadelError as error:
                self.why = error.sentence()
        return None if self.why else lambda digest: asyncio.run(self._sealed(digest))

    def open(self) -> Open | None:
        """None, and `why`, if it is not here. What it gives raises Unavailable while Vault cannot be asked."""
        return None if self.why else self._opened

    def holds(self, kek_id: str) -> bool:
        """Whether it is known to be that one. Of one that Vault keeps, the server finds out at its start."""
        if isinstance(self._settings.keys.kek, TransitKey):
            return True
        return self._key is not None and self._key.holds(kek_id)

    def _load(self, source: SecretSource) -> KeyEncryptionKey:
        if source.kind == "file":
            return FilePlace(Path(source.where)).load()
        return CredentialPlace(source.where, self._env.get("CREDENTIALS_DIRECTORY")).load()

    async def _look(self) -> None:
        async with self._held():
            pass

    async def _sealed(self, digest: bytes) -> bytes:
        async with self._held() as key:
            return await key.seal(digest, origin.CONTEXT)

    async def _opened(self, sealed: bytes) -> bytes:
        async with self._held() as key:
            return await key.open(sealed, origin.CONTEXT)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[KeyEncryptionKey]:
        if self._key is not None:
            yield self._key
            return
        from citadel.telemetry import logging
        from citadel.vault import TransitKek  # hvac is not imported where it is not needed
        from citadel.vault_parts import vault_session

        logging.configure("error", "auto")  # what a command says is what it found
        session, source = vault_session(self._settings, self._env, SystemClock()), self._settings.keys.kek
        if session is None or not isinstance(source, TransitKey):
            raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
        try:
            key = TransitKek(session, source.mount, source.name)
            await key.look()
            yield key
        finally:
            await session.close()
