"""The audit log: records, the hash chain of each writer, signed checkpoints, and how all of it is verified."""

from citadel.audit.checkpoint import AuditKey, Checkpoint, Kind
from citadel.audit.record import GENESIS, AuditEvent, JsonScalar, canonical, link
from citadel.audit.verify import ChainReport

__all__ = [
    "GENESIS",
    "AuditEvent",
    "AuditKey",
    "ChainReport",
    "Checkpoint",
    "JsonScalar",
    "Kind",
    "canonical",
    "link",
]
