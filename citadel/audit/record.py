"""Audit records as values, and the hash chain that makes a missing or altered one evident."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

JsonScalar = str | int | bool | None  # what a detail may hold: flat, so that its canonical form is one line

GENESIS = b"\x00" * 32
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Somebody did something to something.

    `actor` is `uid:0`, a SPIFFE ID, or `system:<job>`. `action` is `noun.verb` (`svid.issue`, `entry.create`).
    `subject` is what it was done to: a SPIFFE ID, an entry id, a SKID. Never a secret, in any field.
    """

    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, JsonScalar] = field(default_factory=dict)
    reason: str = ""


def canonical(event: AuditEvent) -> bytes:
    """The one encoding of an event that is stored and hashed: JSON, sorted keys, no spaces, UTC microseconds."""
    return _encode(
        {
            "at": event.at.isoformat(timespec="microseconds"),
            "actor": event.actor,
            "action": event.action,
            "subject": event.subject,
            "detail": dict(event.detail),
            "reason": event.reason,
        }
    ).encode()


def link(previous: bytes, writer: str, sequence: int, body: bytes) -> bytes:
    """The hash of one link: SHA-256 over the previous link's hash, the writer, the sequence number and the body.

    `previous` is GENESIS for the first link of a writer's chain; `sequence` counts from 1 without a gap.
    """
    name = writer.encode()
    head = len(name).to_bytes(4, "big") + name + sequence.to_bytes(8, "big")
    return hashlib.sha256(previous + head + body).digest()
