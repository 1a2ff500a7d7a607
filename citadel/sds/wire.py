"""SDS messages as bytes: requests are reduced to what matters as they are read, responses are put together from parts
that were encoded once for all streams."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from citadel.sds.stream import SECRET_TYPE, DeltaRequest, Send, SotwRequest

_MAX_NODE = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and who asks. The whole message, held as long as its stream lives, would cost 238 KiB."""

    node: str
    request: SotwRequest | DeltaRequest


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no request."""


def read_sotw(raw: bytes) -> Asked | Garbage:
    """Of a DiscoveryRequest."""
    try:
        message = discovery_pb2.DiscoveryRequest.FromString(raw)
    except DecodeError:
        return Garbage()
    error = message.error_detail.message if message.HasField("error_detail") else None
    request = SotwRequest(
        message.type_url, tuple(message.resource_names), message.response_nonce, message.version_info, error
    )
    return Asked(message.node.id[:_MAX_NODE], request)


def read_delta(raw: bytes) -> Asked | Garbage:
    """Of a DeltaDiscoveryRequest."""
    try:
        message = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
    except DecodeError:
        return Garbage()
    request = DeltaRequest(
        message.type_url,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
    )
    return Asked(message.node.id[:_MAX_NODE], request)


def write_sotw(send: Send) -> bytes:
    """A DiscoveryResponse: version_info 1, resources 2, type_url 4, nonce 5."""
    parts = [_field(1, send.version.encode())]
    parts += [_field(2, resource.body) for resource in send.resources]
    return b"".join([*parts, _TYPE, _field(5, send.nonce.encode())])


def write_delta(send: Send) -> bytes:
    """A DeltaDiscoveryResponse: system_version_info 1, resources 2 (version 1, resource 2, name 3), type_url 4,
    nonce 5."""
    parts = [_field(1, send.version.encode())]
    for one in send.resources:
        body = _field(1, one.version.encode()) + _field(2, one.body) + _field(3, one.name.encode())
        parts += [_field(2, body)]
    return b"".join([*parts, _TYPE, _field(5, send.nonce.encode())])


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field. Messages concatenate, so a shared body is copied and never encoded again."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_TYPE = _field(4, SECRET_TYPE.encode())
