"""Checkpoints: signed statements of how far a writer's chain goes, and where what was pruned of it ends.

A checkpoint is one line of text without spaces, so that it can be kept anywhere: it goes to the log stream, and
`citadel audit verify --checkpoint` takes it from there. With its signature removed, that text is what is signed
(Ed25519, RFC 8032).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from citadel.errors import InvalidInput


class Kind(StrEnum):
    TIP = "checkpoint"  # the chain went so far
    BASE = "base"  # what the chain had up to here was pruned


_TEXT = re.compile(
    r"citadel-audit-(?P<kind>checkpoint|base)-v1:(?P<writer>[A-Za-z0-9._-]{1,255}):(?P<sequence>[0-9]{1,19})"
    r":(?P<at>[0-9]{1,17}):(?P<hash>[0-9a-f]{64}):(?P<key>[0-9a-f]{64}):(?P<signature>[A-Za-z0-9_-]{86})"
    r"(?![A-Za-z0-9_:-])"
)


@dataclass(frozen=True, slots=True)
class AuditKey:
    """The public half of a key that signs checkpoints, as SubjectPublicKeyInfo (DER). `id` is its SHA-256, in hex."""

    der: bytes
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hashlib.sha256(self.der).hexdigest())

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> AuditKey:
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def pem(self) -> str:
        return self._key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def verifies(self, checkpoint: Checkpoint) -> bool:
        """Whether `checkpoint` was signed by this key."""
        if checkpoint.key_id != self.id:
            return False
        try:
            self._key().verify(checkpoint.signature, checkpoint.statement())
        except (InvalidSignature, InvalidInput):
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        try:
            key = load_der_public_key(self.der)
        except ValueError as error:
            raise InvalidInput(f"the audit key {self.id} cannot be read") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidInput(f"the audit key {self.id} is not an Ed25519 key")
        return key


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`writer`'s chain has the record number `sequence`, with the link hash `hash`. `at`: UTC microseconds since 1970,
    when it was signed."""

    kind: Kind
    writer: str
    sequence: int
    hash: bytes
    at: int
    key_id: str
    signature: bytes = b""

    def statement(self) -> bytes:
        """What is signed."""
        head = f"citadel-audit-{self.kind}-v1:{self.writer}:{self.sequence}:{self.at}"
        return f"{head}:{self.hash.hex()}:{self.key_id}".encode()

    def signed(self, key: Ed25519PrivateKey) -> Checkpoint:
        return replace(self, signature=key.sign(self.statement()))

    def __str__(self) -> str:
        return self.statement().decode() + ":" + base64.urlsafe_b64encode(self.signature).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read one. Raises InvalidInput."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise InvalidInput(
                f"{text.strip()[:80]!r} is not an audit checkpoint",
                mend="give the whole text that begins with citadel-audit-checkpoint-v1:",
            )
        return cls._of(match)

    @classmethod
    def find_all(cls, text: str) -> Iterator[Checkpoint]:
        """All that stand anywhere in `text`, such as a log."""
        return map(cls._of, _TEXT.finditer(text))

    @classmethod
    def _of(cls, match: re.Match[str]) -> Checkpoint:
        try:
            signature = base64.b64decode(match["signature"] + "==", altchars=b"-_", validate=True)
        except binascii.Error as error:  # 86 characters are always 64 bytes; what is left over must be zero bits
            raise InvalidInput("an audit checkpoint's signature is not base64url") from error
        return cls(
            Kind(match["kind"]),
            match["writer"],
            int(match["sequence"]),
            bytes.fromhex(match["hash"]),
            int(match["at"]),
            match["key"],
            signature,
        )
