"""Trust domains, SPIFFE IDs, and the name of a node."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from citadel.config.values.reading import AS_TEXT, from_text, several, write_texts
from citadel.spiffe import SpiffeId, TrustDomain


def _node_name(text: str) -> str:
    SpiffeId.of(TrustDomain("td"), text)
    if "/" in text:
        raise ValueError(f"{text!r} has a slash; a node's name is one segment of a SPIFFE ID's path")
    return text


def _optional_spiffe_id(text: str) -> SpiffeId | None:
    return SpiffeId.parse(text) if text else None


TrustDomainName = Annotated[TrustDomain, PlainValidator(from_text(TrustDomain.parse, TrustDomain)), AS_TEXT]
TrustDomainNames = Annotated[
    tuple[TrustDomain, ...],
    PlainValidator(several(TrustDomain.parse, "trust domains", TrustDomain)),
    PlainSerializer(write_texts, return_type=list),
]
SpiffeIds = Annotated[
    tuple[SpiffeId, ...],
    PlainValidator(several(SpiffeId.parse, "SPIFFE IDs", SpiffeId)),
    PlainSerializer(write_texts, return_type=list),
]
OptionalSpiffeId = Annotated[
    SpiffeId | None, PlainValidator(from_text(_optional_spiffe_id, SpiffeId, type(None))), AS_TEXT
]
NodeName = Annotated[str, PlainValidator(from_text(_node_name))]
