"""Who can open a backup: who knows a passphrase (scrypt, RFC 7914), or holds an X25519 private key (RFC 7748).

Each recipient has the file's key wrapped with AES-256-GCM under a key that is used once: of a fresh salt, or of a fresh
ephemeral key (RFC 5869 HKDF over the shared secret and both public keys).
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from citadel.ca.files import read_public, read_secret
from citadel.errors import BadFile, InvalidInput, Mistake

KEY_BYTES = 32
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 17, 8, 1  # 128 MiB, and about half a second
_MOST_N = 1 << 19  # what a file may ask of who opens it: 512 MiB
_SHORTEST = 12  # characters
_ONCE = b"\x00" * 12  # the nonce of a key that is used once
_MAKE = "make one with: openssl genpkey -algorithm x25519"

Stanza = dict[str, str | int]  # one recipient, as the file's header has it


class Recipient(Protocol):
    def wrap(self, key: bytes) -> Stanza:
        """The file's key, for this recipient alone."""


class Opener(Protocol):
    @property
    def tells_origin(self) -> bool:
        """Whether only those can have sealed what it opens who could also open it."""

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The file's key, or None if the stanza is for somebody else. Raises InvalidInput if it asks for too much."""


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Recipient and Opener. Raises InvalidInput if it is too short to resist guessing."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.text) < _SHORTEST:
            raise InvalidInput(
                f"the passphrase has {len(self.text)} characters", mend=f"take at least {_SHORTEST}, better 5 words"
            )

    @property
    def tells_origin(self) -> bool:
        return True

    def wrap(self, key: bytes) -> Stanza:
        salt = os.urandom(16)
        wrapped = AESGCM(self._derive(salt, _SCRYPT_N)).encrypt(_ONCE, key, b"scrypt")
        return {"type": "scrypt", "salt": _text(salt), "n": _SCRYPT_N, "wrapped": _text(wrapped)}

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.get("type") != "scrypt":
            return None
        n = stanza.get("n")
        if not isinstance(n, int) or n < 2 or n > _MOST_N or n & (n - 1):
            raise InvalidInput("the backup asks for more work than we do, or is damaged", mend="take another backup")
        return _opened(self._derive(_bytes(stanza, "salt"), n), _bytes(stanza, "wrapped"), b"scrypt")

    def _derive(self, salt: bytes, n: int) -> bytes:
        return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=_SCRYPT_R, p=_SCRYPT_P).derive(self.text.encode())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Recipient: whoever has the private half."""

    key: X25519PublicKey

    def wrap(self, key: bytes) -> Stanza:
        mine = X25519PrivateKey.generate()
        ephemeral = mine.public_key().public_bytes_raw()
        once = _agreed(mine.exchange(self.key), ephemeral, self.key.public_bytes_raw())
        wrapped = AESGCM(once).encrypt(_ONCE, key, b"x25519")
        return {"type": "x25519", "ephemeral": _text(ephemeral), "wrapped": _text(wrapped)}


@dataclass(frozen=True, slots=True)
class Identity:
    """Opener with a private key."""

    key: X25519PrivateKey = field(repr=False)

    @property
    def tells_origin(self) -> bool:
        return False

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.get("type") != "x25519":
            return None
        ephemeral = _bytes(stanza, "ephemeral")
        try:
            shared = self.key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:  # of the wrong length, or of small order
            return None
        once = _agreed(shared, ephemeral, self.key.public_key().public_bytes_raw())
        return _opened(once, _bytes(stanza, "wrapped"), b"x25519")


def read_public_key(path: Path) -> PublicKey:
    """An X25519 public key in PEM. Raises NotFound, PermissionDenied, BadFile."""
    try:
        key = load_pem_public_key(read_public(path, what="public key"))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PublicKey):
        raise BadFile(
            [Mistake(str(path), "", "expected an X25519 public key in PEM")], mend=f"{_MAKE} | openssl pkey -pubout"
        )
    return PublicKey(key)


def read_identity(path: Path) -> Identity:
    """An X25519 private key in PEM, which nobody else may read. Raises NotFound, UnsafePermissions, BadFile."""
    content = read_secret(path, what="private key")
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # without the cause: it may show the key
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise BadFile([Mistake(str(path), "", "expected an unencrypted X25519 private key in PEM")], mend=_MAKE)
    return Identity(key)


def _agreed(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, ephemeral + recipient, b"citadel backup x25519").derive(shared)


def _opened(key: bytes, wrapped: bytes, context: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(_ONCE, wrapped, context)
    except (InvalidTag, ValueError):
        return None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(stanza: Stanza, name: str) -> bytes:
    try:
        return base64.b64decode(str(stanza.get(name, "")), validate=True)
    except (binascii.Error, ValueError):
        return b""
