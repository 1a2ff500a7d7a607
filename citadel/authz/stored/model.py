"""What the store keeps of policies: documents, and the versions that the set of them has had."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from citadel.authz.load import SourceText
from citadel.authz.model import Document, Kind, PolicyName
from citadel.errors import InvalidInput

Action = Literal["apply", "delete", "rollback"]
_NUMBER = re.compile(r"v?([1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True, order=True)
class DocumentKey:
    """What tells documents apart. Written `AuthorizationPolicy shop/web`."""

    kind: Kind
    name: PolicyName

    @classmethod
    def of(cls, document: Document) -> DocumentKey:
        return cls(document.kind, document.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One document as it is kept: the Kubernetes object as JSON, on one line, with its namespace."""

    key: DocumentKey
    body: str = field(repr=False)
    since: int = 0
    """The version that gave it this form; 0: none yet."""

    def text(self) -> SourceText:
        """As `load` takes it; the name is what mistakes and explanations call the place."""
        return SourceText(f"store:{self.key.kind}/{self.key.name}", self.body.encode())


@dataclass(frozen=True, slots=True)
class Version:
    """One change, and the set that it led to."""

    number: int
    """From 1, without a gap."""
    at: datetime
    actor: str
    """Who made it: `uid:1000`."""
    action: Action
    comment: str
    content: str
    """SHA-256 over the documents' meaning, as hex (PolicyDocuments.version)."""
    set_version: str
    """The version that the set has where it decides (PolicySet.version), for the mesh as its maker knew it."""
    documents: int
    created: int
    updated: int
    deleted: int
    confirmed: bool = False
    """Somebody said that it is meant to lose or to open so much."""
    restores: int = 0
    """For a rollback: the version whose documents these are."""

    def __str__(self) -> str:
        return f"v{self.number}"


@dataclass(frozen=True, slots=True)
class StoredSet:
    """The documents of one version, in order of their keys. Without a version nothing was ever stored."""

    version: Version | None = None
    documents: tuple[StoredDocument, ...] = ()

    @property
    def number(self) -> int:
        return 0 if self.version is None else self.version.number

    def texts(self) -> list[SourceText]:
        return [one.text() for one in self.documents]


def version_number(text: str) -> int:
    """The number of a version that somebody names: `v12` or `12`. Raises InvalidInput."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{text[:40]!r} is no version: expected v1, v2, …", mend="see: citadel policy history")
    return int(found[1])
