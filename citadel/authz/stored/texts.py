"""Documents in the form that is kept: the Kubernetes object as JSON on one line, without what a cluster adds to it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from citadel.authz.load import PolicyDocuments
from citadel.authz.load.read import read
from citadel.authz.load.result import Origin
from citadel.authz.load.text import Piece
from citadel.authz.load.tree import NotText, Value, key_text
from citadel.authz.model import Document
from citadel.authz.stored.model import DocumentKey, StoredDocument

_METADATA = ("name", "namespace", "creationTimestamp", "labels", "annotations")
"""The rest is the cluster's bookkeeping (resourceVersion, uid, managedFields), and means nothing."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def stored_documents(documents: PolicyDocuments) -> list[StoredDocument]:
    """Every document of a load as it is kept, in order of the keys. Reads each piece of the files once more."""
    places: dict[Piece, list[tuple[Document, Origin]]] = defaultdict(list)
    for document in documents:
        origin = documents.origin(document)
        places[origin.piece].append((document, origin))
    return sorted(
        (one for piece, held in places.items() for one in _of_piece(piece, held)),
        key=lambda one: one.key,
    )


def _of_piece(piece: Piece, held: list[tuple[Document, Origin]]) -> Iterator[StoredDocument]:
    trees = read(piece.text).documents
    for document, origin in held:
        value: Any = trees[origin.index][0]
        for part in origin.path:
            value = value[part]
        yield StoredDocument(DocumentKey.of(document), _body(value, document))


def _body(value: dict[str, Value], document: Document) -> str:
    metadata = {key: _plain(value["metadata"][key]) for key in _METADATA if value["metadata"].get(key) is not None}
    metadata["namespace"] = document.name.namespace  # so that it means the same wherever it is read
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        annotations.pop(_LAST_APPLIED, None)
    kept = {"apiVersion": value["apiVersion"], "kind": value["kind"], "metadata": metadata}
    if "spec" in value:
        kept["spec"] = _plain(value["spec"])
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Value) -> Any:
    """The value as JSON has it; booleans without quotes stay such, other scalars are text."""
    if isinstance(value, dict):
        return {key_text(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, NotText):
        return value.text if value.truth is None else value.truth
    return value
