"""SoftwareSigner: a private key in this process's memory."""

from __future__ import annotations

from citadel.ca import keys
from citadel.ca.lint import LintedCertificate


class SoftwareSigner:
    """Signs with a key that is held here. Its repr names the key by its SKID and shows nothing of it."""

    __slots__ = ("_private", "_public")

    def __init__(self, private_key: keys.PrivateKey) -> None:
        self._private = private_key
        self._public = private_key.public_key()

    @property
    def public_key(self) -> keys.PublicKey:
        return self._public

    @property
    def remote(self) -> bool:
        return False

    async def sign(self, certificate: LintedCertificate) -> bytes:
        """See ports.Signer. P-256 takes some 30 µs on the event loop; RSA-2048 about a millisecond."""
        return keys.sign(self._private, certificate.tbs)

    def __repr__(self) -> str:
        return f"SoftwareSigner({keys.skid(self._public)})"
