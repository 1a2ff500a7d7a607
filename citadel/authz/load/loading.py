"""A whole load: many files in, one set of documents out, or every mistake of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from citadel.authz.load.documents import Reading, objects
from citadel.authz.load.findings import Finding
from citadel.authz.load.places import locate
from citadel.authz.load.read import read
from citadel.authz.load.result import (
    LoadWarning,
    Origin,
    ParsedPiece,
    PolicyDocuments,
    Skipped,
    digest,
    dotted,
    version,
)
from citadel.authz.load.text import Piece, decode, pieces
from citadel.authz.load.tree import Path, Tree
from citadel.authz.model import (
    AuthorizationPolicy,
    Document,
    Kind,
    PeerAuthentication,
    PolicyName,
    RequestAuthentication,
)
from citadel.authz.uncollected import uncollected
from citadel.errors import BadFile, Mistake

MAX_MISTAKES = 200
"""After so many mistakes, reading stops: somebody gave us the wrong files."""
MAX_OBJECTS = 200_000
"""How many documents and items of lists one load may have, those that are skipped included."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The bytes of a file, or of whatever has a name that a user can find again: `policies/shop.yaml`, `<stdin>`."""

    name: str
    content: bytes = field(repr=False)


@uncollected()
def load(
    sources: Iterable[SourceText], *, default_namespace: str = "default", previous: PolicyDocuments | None = None
) -> PolicyDocuments:
    """Read Istio's security documents from YAML and JSON, all of them or none.

    A file may hold many documents, and Kubernetes `List`s; a name that ends in `.json` is read as nothing but JSON. A
    document without a namespace is one of `default_namespace`. What belongs to other API groups is skipped, and named
    in the result. What the documents of `previous`, an earlier result, have in common with these is not read again.

    Raises BadFile with every mistake of all sources (at most 200): file, line, column, document, field, and what was
    expected.
    """
    loading = _Loading(default_namespace, previous)
    for source in sources:
        if loading.is_over:
            break
        loading.source(source)
    return loading.result()


def load_text(text: str, *, name: str = "<text>", default_namespace: str = "default") -> PolicyDocuments:
    """`load` for a single text, as tests and applications have it. Raises BadFile."""
    return load([SourceText(name, text.encode("utf-8", "surrogatepass"))], default_namespace=default_namespace)


class _Loading:
    """A load in progress."""

    def __init__(self, default_namespace: str, previous: PolicyDocuments | None) -> None:
        self.mistakes: list[Mistake] = []
        self._file = ""
        self._default_namespace = default_namespace
        self._salt = hashlib.sha256(default_namespace.encode("utf-8", "surrogatepass")).digest()
        self._known = previous.pieces if previous else {}
        self._pieces: dict[bytes, ParsedPiece] = {}
        self._policies: list[AuthorizationPolicy] = []
        self._request_authentications: list[RequestAuthentication] = []
        self._peer_authentications: list[PeerAuthentication] = []
        self._digests: list[bytes] = []
        self._origins: dict[tuple[Kind, PolicyName], Origin] = {}
        self._skipped: list[Skipped] = []
        self._warnings: list[LoadWarning] = []

    def source(self, source: SourceText) -> None:
        self._file = source.name
        try:
            text = decode(source.name, source.content)
        except BadFile as error:
            self.mistakes.extend(error.mistakes)
            return
        is_json = source.name.endswith(".json")
        for piece in [Piece(text, 1)] if is_json else pieces(text):
            self._piece(source.name, piece, is_json)
            if self.is_over:
                return

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be read."""
        return len(self.mistakes) >= MAX_MISTAKES or self._objects > MAX_OBJECTS

    @property
    def _objects(self) -> int:
        return len(self._origins) + len(self._skipped)

    def result(self) -> PolicyDocuments:
        if self._objects > MAX_OBJECTS:
            more = f"there are more than {MAX_OBJECTS} documents; reading stopped here"
            self.mistakes.append(Mistake(self._file, "", more))
        if self.mistakes:
            mistakes = self.mistakes[:MAX_MISTAKES]
            if len(mistakes) == MAX_MISTAKES:
                last = mistakes[-1]
                more = "there may be more mistakes; reading stopped here"
                mistakes.append(Mistake(last.file, "", more, last.line, last.column))
            raise BadFile(mistakes)
        return PolicyDocuments(
            authorization_policies=tuple(sorted(self._policies, key=lambda one: one.metadata.name)),
            request_authentications=tuple(sorted(self._request_authentications, key=lambda one: one.metadata.name)),
            peer_authentications=tuple(sorted(self._peer_authentications, key=lambda one: one.metadata.name)),
            version=version(self._digests),
            skipped=tuple(self._skipped),
            warnings=tuple(self._warnings),
            origins=self._origins,
            pieces=self._pieces,
        )

    # --- one piece

    def _piece(self, file: str, piece: Piece, is_json: bool) -> None:
        content = hashlib.sha256(self._salt + (b"j" if is_json else b"y") + piece.text.encode()).digest()
        parsed = self._pieces.get(content) or self._known.get(content)
        if parsed is None:
            tree = read(piece.text, is_json=is_json)
            if tree.faults:
                self._faults(file, piece, tree)
                return
            parsed = self._parsed(file, piece, tree)
            if parsed is None:
                return
        self._pieces[content] = parsed
        self._take(file, piece, parsed)

    def _faults(self, file: str, piece: Piece, tree: Tree) -> None:
        for fault in tree.faults:
            self.mistakes.append(Mistake(file, "", fault.message, fault.line + piece.line - 1, fault.column))

    def _parsed(self, file: str, piece: Piece, tree: Tree) -> ParsedPiece | None:
        """What the piece holds; None if there is a mistake in it, which is noted."""
        documents, skipped = [], []
        warnings: list[LoadWarning] = []
        mistakes: list[Mistake] = []
        for index, (value, line) in enumerate(tree.documents):
            readings = list(_until_too_many(objects(value, self._default_namespace)))
            told = [one for one in readings if one.findings.mistakes or one.findings.warnings]
            places = _places(piece, index, told) if told else {}
            for one in readings:
                mistakes += [_mistake(file, piece, one.title, mistake, places) for mistake in one.findings.mistakes]
                if one.document is not None:
                    warnings += _warnings(one.document, one.findings.warnings, places)
                if one.skipped:
                    skipped.append((*one.skipped, index, line, one.path))
                elif one.document is not None:
                    documents.append((one.document, digest(one.document), index, line, one.path))
        self.mistakes += sorted(mistakes, key=lambda one: (one.line, one.column))
        return None if mistakes else ParsedPiece(tuple(documents), tuple(skipped), tuple(warnings))

    def _take(self, file: str, piece: Piece, parsed: ParsedPiece) -> None:
        before = piece.line - 1
        for document, content, index, line, path in parsed.documents:
            origin = Origin(file, line + before, piece, index, path)
            key = (document.kind, document.metadata.name)
            if (first := self._origins.setdefault(key, origin)) is not origin:
                self._duplicate(key, origin, first)
                continue
            self._digests.append(content)
            if isinstance(document, AuthorizationPolicy):
                self._policies.append(document)
            elif isinstance(document, RequestAuthentication):
                self._request_authentications.append(document)
            else:
                self._peer_authentications.append(document)
        for version_, kind, name, index, line, path in parsed.skipped:
            self._skipped.append(Skipped(Origin(file, line + before, piece, index, path), version_, kind, name))
        self._warnings += [replace(one, file=file, line=one.line + before) for one in parsed.warnings]

    def _duplicate(self, key: tuple[Kind, PolicyName], origin: Origin, first: Origin) -> None:
        kind, name = key
        at, other = origin.place(("metadata", "name")), first.place(("metadata", "name"))
        field_name = dotted((*origin.path, "metadata", "name"))
        message = f"there is another one of this name, at {first.file}:{other[0]}"
        self.mistakes.append(Mistake(origin.file, field_name, message, *at, document=f"{kind} {name}"))


def _until_too_many(readings: Iterable[Reading]) -> Iterator[Reading]:
    """The readings of a document, up to the one with the last mistake that is told."""
    mistakes = 0
    for reading in readings:
        yield reading
        mistakes += len(reading.findings.mistakes)
        if mistakes >= MAX_MISTAKES:
            return


def _places(piece: Piece, index: int, readings: Iterable[Reading]) -> dict[Path, tuple[int, int]]:
    findings = chain.from_iterable(chain(one.findings.mistakes, one.findings.warnings) for one in readings)
    return locate(piece.text, index, {finding.path for finding in findings})


def _warnings(
    document: Document, findings: Iterable[Finding], places: dict[Path, tuple[int, int]]
) -> Iterator[LoadWarning]:
    """What is warned of, without what the document silences."""
    for finding in findings:
        if finding.code not in document.metadata.silenced:
            where = ("", *places[finding.path], document.kind, document.name, dotted(finding.path))
            yield LoadWarning(finding.code, *where, finding.message)


def _mistake(file: str, piece: Piece, title: str, finding: Finding, places: dict[Path, tuple[int, int]]) -> Mistake:
    line, column = places[finding.path]
    return Mistake(file, dotted(finding.path), finding.message, line + piece.line - 1, column, document=title)
