"""What is in a backup, as the backup itself says, and as it was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from citadel.errors import FailedPrecondition

_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """`made_at` is RFC 3339 in UTC. `audit` has the last sequence number of each writer's chain. `keks`: names of the
    key-encryption keys that its private keys need. `digest`: SHA-256 of the database, in hex. `proof`: see origin."""

    trust_domain: str
    database_id: str
    made_at: str
    version: str
    revision: str
    bundle_sequence: int
    serials: int
    entries: int
    size: int
    digest: str = ""
    proof: str = ""
    keks: tuple[str, ...] = ()
    audit: Mapping[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """With its length before it: 4 bytes, big-endian."""
        body = json.dumps(asdict(self), sort_keys=True).encode()
        return len(body).to_bytes(4, "big") + body

    @classmethod
    def decode(cls, body: bytes) -> Manifest:
        """Raises FailedPrecondition."""
        try:
            values: dict[str, Any] = json.loads(body)
            found = cls(**{**values, "keks": tuple(values["keks"])})
            if not found._is_of_its_types():  # whoever has the public key can have written it
                raise ValueError
            return found
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FailedPrecondition(
                "the backup's list of contents cannot be read",
                mend="open it with the Citadel that made it, or a newer one",
            ) from None

    def _is_of_its_types(self) -> bool:
        kinds = {"str": str, "int": int, "tuple[str, ...]": tuple, "Mapping[str, int]": dict}
        if not all(type(getattr(self, one.name)) is kinds[str(one.type)] for one in fields(self)):
            return False
        numbers = [self.bundle_sequence, self.serials, self.entries, self.size, *self.audit.values()]
        return all(type(one) is int and one >= 0 for one in numbers) and all(type(one) is str for one in self.keks)


def split(content: Any) -> tuple[Manifest, bytes]:
    """Read the manifest off the front of an iterator of pieces; with what is left of the piece behind it."""
    waiting = b""
    while len(waiting) < 4 or len(waiting) < 4 + int.from_bytes(waiting[:4], "big"):
        piece = next(content, b"")
        if not piece or (len(waiting) >= 4 and int.from_bytes(waiting[:4], "big") > _LONGEST):
            raise FailedPrecondition("the backup is empty", mend="take another one")
        waiting += piece
    length = int.from_bytes(waiting[:4], "big")
    return Manifest.decode(waiting[4 : 4 + length]), waiting[4 + length :]
