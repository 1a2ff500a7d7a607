"""Key-encryption keys: AES-256-GCM under a key from a 0600 file or a systemd credential. Contract: KeyEncryptionKey."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from citadel.errors import BadFile, FailedPrecondition, Mistake, NotFound, PermissionDenied, UnsafePermissions

_VERSION = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_MAX_FILE = 64 * 1024


class LocalKek:
    """A key-encryption key in this process's memory. `id` is an HMAC under the key, so it reveals nothing of it.

    Ciphertext: version byte, 96-bit nonce, AES-256-GCM output (NIST SP 800-38D). One key seals a handful of
    authorities' keys, far below the 2^32 messages for which random nonces are safe.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise FailedPrecondition(f"a key-encryption key has {_KEY_BYTES} bytes, this one {len(key)}")
        self._cipher = AESGCM(key)
        self._id = "local:" + hmac.new(key, b"citadel kek id", hashlib.sha256).hexdigest()[:16]

    @property
    def id(self) -> str:
        return self._id

    async def seal(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, _VERSION + context)

    async def open(self, ciphertext: bytes, context: bytes) -> bytes:
        if ciphertext[:1] != _VERSION or len(ciphertext) < 1 + _NONCE_BYTES + 16:
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
    """The key in `path` (base64 of 32 bytes). Raises NotFound, UnsafePermissions, PermissionDenied, BadFile."""
    return LocalKek(_decode(read_private_file(path), str(path)))


def credential_kek(name: str, directory: str | None) -> LocalKek:
    """The key in systemd's credential `name`, `directory` being $CREDENTIALS_DIRECTORY. Raises as `file_kek`."""
    if not directory:
        raise NotFound(
            f"there is no credential {name!r}: CREDENTIALS_DIRECTORY is not set",
            mend="start Citadel as a systemd service with LoadCredential=, or set keys.kek to file:PATH",
        )
    path = Path(directory) / name
    return LocalKek(_decode(read_private_file(path), str(path)))


def read_private_file(path: Path) -> bytes:
    """The content of a file that holds a secret: regular, small, owned by us or root, nobody else's to read.

    Raises NotFound, PermissionDenied, UnsafePermissions, BadFile.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no key file {path}", mend="restore it from your copy") from None
    except OSError as error:
        raise PermissionDenied(
            f"{path} cannot be read: {error.strerror}", mend="run as the user who owns it"
        ) from error
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        raise BadFile([Mistake(str(path), "", "it is not a regular file")])
    with os.fdopen(handle, "rb") as file:
        if facts.st_uid not in (0, os.geteuid()):
            raise UnsafePermissions(f"{path} belongs to uid {facts.st_uid}", mend=f"run: chown {os.geteuid()} {path}")
        if facts.st_mode & 0o077:
            raise UnsafePermissions(f"others may read or write {path}", mend=f"run: chmod 600 {path}")
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise BadFile([Mistake(str(path), "", f"it is larger than {_MAX_FILE} bytes")])
    return content


def _decode(content: bytes, where: str) -> bytes:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadFile([Mistake(where, "", f"expected {_KEY_BYTES} bytes in base64")], mend="restore it from your copy")
    return key
