"""The file of a backup: a header in the clear, then its content in chunks of AES-256-GCM, in an order that shows a cut.

    citadel-backup-v1\\n
    {"nonce": …, "recipients": [{…}, …]}\\n      JSON, at most 16 KiB
    chunks of 64 KiB + 16                       nonce: 11 bytes of count, 1 byte that is 1 in the last (STREAM)

The content's key is derived (HKDF) from the file's key and the whole header, so no byte of that can change either.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from citadel.backup.recipients import KEY_BYTES, Opener, Recipient, Stanza
from citadel.errors import FailedPrecondition, InvalidInput, PermissionDenied

MAGIC = b"citadel-backup-v1\n"
CHUNK = 64 * 1024
_TAG = 16
_LONGEST_HEADER = 16 * 1024
_MOST_RECIPIENTS = 16
_DAMAGED = "the backup is damaged or was altered"


def seal_container(target: BinaryIO, content: Iterable[bytes], recipients: Sequence[Recipient]) -> None:
    """Write `content`, whatever its pieces are, for each of `recipients`. Raises InvalidInput."""
    if not 0 < len(recipients) <= _MOST_RECIPIENTS:
        raise InvalidInput(f"a backup has 1 to {_MOST_RECIPIENTS} recipients, not {len(recipients)}")
    key = os.urandom(KEY_BYTES)
    nonce = base64.b64encode(os.urandom(16)).decode()
    header = json.dumps({"nonce": nonce, "recipients": [r.wrap(key) for r in recipients]}).encode() + b"\n"
    target.write(MAGIC + header)
    cipher = AESGCM(_content_key(key, header))
    waiting = bytearray()
    count = 0
    for piece in content:
        waiting += piece
        while len(waiting) > CHUNK:  # one is kept back: it may be the last
            target.write(cipher.encrypt(_nonce(count, last=False), bytes(waiting[:CHUNK]), None))
            del waiting[:CHUNK]
            count += 1
    target.write(cipher.encrypt(_nonce(count, last=True), bytes(waiting), None))


def open_container(source: BinaryIO, opener: Callable[[], Opener]) -> Iterator[bytes]:
    """The content, piece by piece, each authenticated; only when it ends is it known to be whole.

    `opener` is asked for when the file is known to be a backup. Raises InvalidInput if it is none, PermissionDenied if
    it is for somebody else, FailedPrecondition if it is damaged.
    """
    if source.read(len(MAGIC)) != MAGIC:
        raise InvalidInput("it is no backup of Citadel, or one of a newer Citadel", mend="check the path")
    header = source.readline(_LONGEST_HEADER)
    key = _file_key(_recipients(header), opener())
    cipher = AESGCM(_content_key(key, header))
    chunk, count = source.read(CHUNK + _TAG), 0
    while True:
        after = source.read(CHUNK + _TAG)
        try:
            yield cipher.decrypt(_nonce(count, last=not after), chunk, None)
        except (InvalidTag, ValueError):
            raise FailedPrecondition(_DAMAGED, mend="take another copy of it, or another backup") from None
        if not after:
            return
        chunk, count = after, count + 1


def _recipients(header: bytes) -> list[Stanza]:
    try:
        found = json.loads(header)["recipients"] if header.endswith(b"\n") else None
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    stanzas = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    work = sum(stanza.get("type") == "scrypt" for stanza in stanzas)  # each costs time and memory
    if not 0 < len(stanzas) <= _MOST_RECIPIENTS or work > 1:
        raise FailedPrecondition(f"{_DAMAGED}: its header cannot be read", mend="take another copy of it")
    return stanzas


def _file_key(stanzas: Sequence[Stanza], opener: Opener) -> bytes:
    for stanza in stanzas:
        key = opener.unwrap(stanza)
        if key is not None and len(key) == KEY_BYTES:
            return key
    kinds = " or ".join(sorted({str(s.get("type"))[:20] for s in stanzas}))
    raise PermissionDenied(
        f"this does not open the backup, which is sealed to: {kinds}",
        mend="give the passphrase (scrypt) or the private key (x25519) that belongs to it",
    )


def _content_key(key: bytes, header: bytes) -> bytes:
    digest = hashlib.sha256(MAGIC + header).digest()
    return HKDF(hashes.SHA256(), KEY_BYTES, digest, b"citadel backup content").derive(key)


def _nonce(count: int, *, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


__all__ = ["CHUNK", "MAGIC", "open_container", "seal_container"]
