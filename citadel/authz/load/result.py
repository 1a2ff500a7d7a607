"""What a load gives: the documents; and beside them what was skipped or warned of, and where each thing is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from citadel.authz.load.findings import quoted
from citadel.authz.load.places import locate
from citadel.authz.load.text import Piece
from citadel.authz.load.tree import Path
from citadel.authz.model import (
    AuthorizationPolicy,
    Document,
    Kind,
    PeerAuthentication,
    PolicyName,
    RequestAuthentication,
)

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document is written. Never part of its identity: the same policy in another place is the same policy."""

    file: str
    line: int
    """Where the document begins (for an item of a `List`, the `List`), from 1."""
    piece: Piece = field(repr=False)
    index: int = field(default=0, repr=False)
    path: Path = ()
    """Where in the document: `items`, n for an item of a `List`; empty otherwise."""

    def place(self, path: Path = ()) -> tuple[int, int]:
        """Line and column, from 1, of a field of the document (`("spec", "rules", 0)`), or of what is around it.

        Reads the document once more.
        """
        whole = (*self.path, *path)
        line, column = locate(self.piece.text, self.index, [whole])[whole]
        return line + self.piece.line - 1, column

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object of another API group, which is not read."""

    origin: Origin
    api_version: str
    kind: str
    name: str
    """`namespace/name`, as far as they are there."""

    def __str__(self) -> str:
        return f"{self.origin}: {quoted(self.kind)[1:-1]} {self.name} ({quoted(self.api_version)[1:-1]})"


@dataclass(frozen=True, slots=True)
class LoadWarning:
    """Something that loads, and probably does not mean what its author thinks. `code` is stable."""

    code: str
    file: str
    line: int
    column: int
    kind: Kind
    name: PolicyName
    field: str
    message: str

    def __str__(self) -> str:
        where = ": ".join(filter(None, [f"{self.kind} {self.name}", self.field]))
        return f"{self.file}:{self.line}:{self.column}: {where}: {self.message} [{self.code}]"


@dataclass(frozen=True, slots=True)
class ParsedPiece:
    """What a piece of text holds, whatever file it stands in. A later load reuses it. Lines count within the piece."""

    documents: tuple[tuple[Document, bytes, int, int, Path], ...]
    """Document, digest, index in the piece, line, path."""
    skipped: tuple[tuple[str, str, str, int, int, Path], ...]
    """apiVersion, kind, name, index, line, path."""
    warnings: tuple[LoadWarning, ...]
    """Without file, and with lines that count within the piece."""


@dataclass(frozen=True, slots=True)
class PolicyDocuments:
    """All documents of one load, each kind sorted by namespace and name. Made by `load`, whole or not at all."""

    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    request_authentications: tuple[RequestAuthentication, ...] = ()
    peer_authentications: tuple[PeerAuthentication, ...] = ()
    version: str = hashlib.sha256().hexdigest()
    """SHA-256 over the content, as hex: equal for equal documents, wherever and in whatever order they are written."""
    skipped: tuple[Skipped, ...] = field(default=(), compare=False)
    warnings: tuple[LoadWarning, ...] = field(default=(), compare=False)
    origins: Mapping[tuple[Kind, PolicyName], Origin] = field(default_factory=dict, compare=False, repr=False)
    pieces: Mapping[bytes, ParsedPiece] = field(default_factory=dict, compare=False, repr=False)
    """By digest of the text; for `load(previous=…)`."""

    def __iter__(self) -> Iterator[Document]:
        yield from self.authorization_policies
        yield from self.request_authentications
        yield from self.peer_authentications

    def __len__(self) -> int:
        return len(self.authorization_policies) + len(self.request_authentications) + len(self.peer_authentications)

    def origin(self, document: Document) -> Origin:
        """Where this document is written. Raises KeyError if it is not of this load."""
        return self.origins[document.kind, document.name]


def digest(document: Document) -> bytes:
    """SHA-256 over what a document means. Codes that it silences in lint are no part of that."""
    return hashlib.sha256(repr(document).encode("utf-8", "surrogatepass")).digest()


def version(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def dotted(path: Path) -> str:
    """A path as people write it: `spec.rules[0].from`, `metadata.annotations["istio.io/dry-run"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text
