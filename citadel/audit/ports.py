"""What the audit log needs from the world. Each comment is a contract; tests/contract/test_audit_log.py checks it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from citadel.audit.checkpoint import AuditKey, Checkpoint
from citadel.audit.record import AuditEvent


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One link of a writer's chain: `body` is record.canonical of the event."""

    writer: str
    sequence: int
    hash: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class SealedAuditKey:
    """A key that signs checkpoints, as it lies in the store: the private half (PKCS #8 in DER) encrypted."""

    key: AuditKey
    kek_id: str
    ciphertext: bytes = field(repr=False)


class AuditLog(Protocol):
    """The chains of all writers. Implementation: store.audit (SQLite, PostgreSQL)."""

    async def writers(self) -> list[str]:
        """Everybody who has a record or a checkpoint, in order."""

    async def read(self, writer: str, after: int, limit: int) -> list[AuditLine]:
        """Links of one chain with a sequence above `after`, in order."""

    async def checkpoints(self, writer: str) -> list[Checkpoint]:
        """All of a writer's, in the order in which they were added."""

    async def keys(self) -> list[SealedAuditKey]:
        """All that ever signed checkpoints here, oldest first."""


class OwnChain(Protocol):
    """This server's own chain, and what keeps it short. Implementation: store.audit."""

    @property
    def writer(self) -> str: ...

    def tip(self) -> tuple[int, bytes] | None:
        """Sequence and hash of the newest link as this process wrote it, not as the database says now. None: nothing
        is written yet, or a failed transaction left it unsure; the next one settles it."""

    async def grown_to(self, sequence: int) -> None:
        """Returns when the chain has that many links. One caller at a time."""

    async def add_key(self, key: SealedAuditKey, audit: AuditEvent) -> None:
        """Raises AlreadyExists if there is a key by now: another server was quicker."""

    async def replace_key(self, key: SealedAuditKey, audit: AuditEvent) -> None:
        """The same key under another key-encryption key. Raises NotFound."""

    async def record(self, *events: AuditEvent) -> None:
        """Write records of what is done elsewhere than in the store."""

    async def add_checkpoint(self, checkpoint: Checkpoint, *audit: AuditEvent) -> None:
        """Returns when it would survive the loss of power."""

    async def delete_through(self, writer: str, sequence: int, limit: int) -> int:
        """Delete up to `limit` links of `writer` up to `sequence`, oldest first; how many. Checkpoints stay."""


class Sealer(Protocol):
    """A key-encryption key (ca.ports.KeyEncryptionKey has the contract)."""

    @property
    def id(self) -> str: ...

    def holds(self, kek_id: str) -> bool: ...

    async def seal(self, plaintext: bytes, context: bytes) -> bytes: ...

    async def open(self, ciphertext: bytes, context: bytes) -> bytes: ...


__all__ = ["AuditLine", "AuditLog", "OwnChain", "SealedAuditKey", "Sealer"]
