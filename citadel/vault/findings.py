"""Findings: what changed in Vault behind our back, told by name until it is over or was approved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """Stable names, for metrics, alerts and the audit log."""

    NEW_ISSUER = "new-issuer"  # another issuer came into the root's mount
    DEFAULT_SWITCHED = "default-switched"  # the mount's default is another issuer than ours
    ISSUER_RESIGNED = "issuer-re-signed"  # another certificate of our root's key
    ISSUER_REPLACED = "issuer-replaced"  # our issuer's id stands for another key
    ISSUER_RETIRED = "issuer-retired"  # its usage does not include signing any more
    ISSUER_REVOKED = "issuer-revoked"
    ISSUER_GONE = "issuer-gone"
    KEY_ROTATED = "key-rotated"  # a transit key has more versions than we made
    KEY_ARCHIVED = "key-archived"  # the version that we need is below what its settings allow
    KEY_UNFIT = "key-unfit"  # it can leave Vault now, be deleted, or is derived
    KEY_REPLACED = "key-replaced"  # its version is another key than ours
    KEY_GONE = "key-gone"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is the issuer or key. `mend` says what an operator does. `stops`: something that we need does not work
    any more, or will not when it is needed next."""

    kind: FindingKind
    subject: str
    sentence: str
    mend: str
    stops: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same finding at the next look."""
        return self.kind, self.subject

    def __str__(self) -> str:
        return f"{self.sentence} ({self.mend})"


__all__ = ["Finding", "FindingKind"]
