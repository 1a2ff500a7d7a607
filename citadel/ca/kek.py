"""Key-encryption keys: AES-256-GCM under a key from a 0600 file or a systemd credential. Contract: KeyEncryptionKey.

The file holds 32 random bytes in base64, on one line; `citadel init` makes it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from citadel.ca.files import read_secret
from citadel.errors import BadFile, FailedPrecondition, InvalidInput, Mistake, NotFound

_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32


class LocalKek:
    """A key-encryption key in this process's memory. `id` is an HMAC under the key, so it reveals nothing of it.

    Ciphertext: version byte, 96-bit nonce, AES-256-GCM output (NIST SP 800-38D); the version and the context are
    authenticated with it. One key seals a handful of authorities' keys, far below the 2^32 messages for which random
    nonces are safe.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise InvalidInput(f"a key-encryption key has {_KEY_BYTES} bytes, this one {len(key)}")
        self._cipher = AESGCM(key)
        self._id = "local:" + hmac.new(key, b"citadel kek id", hashlib.sha256).hexdigest()[:16]

    @property
    def id(self) -> str:
        return self._id

    def holds(self, kek_id: str) -> bool:
        return kek_id == self._id

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, _VERSION + context)

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        if ciphertext[:1] != _VERSION or len(ciphertext) < len(_VERSION) + _NONCE_BYTES + _TAG_BYTES:
            raise FailedPrecondition("a sealed key is damaged, or of a newer Citadel", mend="restore a backup")
        nonce, body = ciphertext[1 : 1 + _NONCE_BYTES], ciphertext[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, body, _VERSION + context)
        except InvalidTag:
            raise FailedPrecondition(
                f"the key-encryption key {self._id} does not open this private key",
                mend="put back the key file that belongs to this database",
            ) from None

    def __repr__(self) -> str:
        return f"LocalKek({self._id})"


def file_kek(path: Path) -> LocalKek:
    """The key in `path`. Raises NotFound, UnsafePermissions, PermissionDenied, BadFile."""
    return LocalKek(_decode(read_secret(path), path))


def decode(content: bytes, path: Path) -> LocalKek:
    """The key in `content`, which was read from `path`. Raises BadFile."""
    return LocalKek(_decode(content, path))


def credential_kek(name: str, directory: str | None) -> LocalKek:
    """The key in systemd's credential `name`, `directory` being $CREDENTIALS_DIRECTORY (systemd.exec, "Credentials").

    Raises as `file_kek`, and InvalidInput for a name that is a path.
    """
    if not name or name in (".", "..") or "/" in name:
        raise InvalidInput(f"{name!r} is not the name of a credential", mend="give NAME of LoadCredential=NAME:PATH")
    if not directory:
        raise NotFound(
            f"there is no credential {name!r}: CREDENTIALS_DIRECTORY is not set",
            mend="start Citadel as a systemd service with LoadCredential=, or set keys.kek to file:PATH",
        )
    path = Path(directory) / name
    # For a service with User=, systemd grants that user by an access list, which shows as group-readable (0440).
    return LocalKek(_decode(read_secret(path, what="credential", group_reads=True), path))


def _decode(content: bytes, path: Path) -> bytes:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        mistake = Mistake(str(path), "", f"expected {_KEY_BYTES} bytes in base64")
        raise BadFile([mistake], mend="restore it from your copy")
    return key
