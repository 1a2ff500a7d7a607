"""Answers as bytes: what is the same for all that one rule decides is serialised once, and only the id is new.

What it gives is what `answers.answer` means (tests/unit/authz/test_written.py); it is there for speed alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import struct_pb2

from citadel.authz.decision import Decision
from citadel.authz.decision_point import NO_CHANGES, Ruling
from citadel.authz.doors.answers import answer
from citadel.authz.doors.denials import DenialHeader
from citadel.authz.policyset import PolicySet

_MOST_REMEMBERED = 4096
# The wire format of protobuf (protobuf.dev, "Encoding"): a tag, a length, and what is so long; entries of a map are
# messages of two fields, the key and the value.
_METADATA_TAG = bytes([external_auth_pb2.CheckResponse.DESCRIPTOR.fields_by_name["dynamic_metadata"].number << 3 | 2])
_FIELD_TAG = bytes([struct_pb2.Struct.DESCRIPTOR.fields_by_name["fields"].number << 3 | 2])
_TEXT_TAG = bytes([struct_pb2.Value.DESCRIPTOR.fields_by_name["string_value"].number << 3 | 2])
_KEY_OF_ID, _VALUE_TAG = b"\x0a\x02id", b"\x12"


@dataclass(frozen=True, slots=True)
class _Known:
    """The answer to a decision, but for its id."""

    decision: Decision
    """It is kept so that nothing else can come to have its `id()`."""
    metadata: bytes
    rest: bytes
    before: dict[int, bytes] = field(default_factory=dict)
    """All that comes before an id, which is the last thing in it, by the length of the id."""

    def named(self, name: str) -> bytes:
        text = name.encode()
        before = self.before.get(len(text))
        if before is None:
            before = self.before[len(text)] = self._before(len(text))
        return before + text

    def _before(self, size: int) -> bytes:
        value = _TEXT_TAG + _length(size)
        pair = _KEY_OF_ID + _VALUE_TAG + _length(len(value) + size) + value
        metadata = self.metadata + _FIELD_TAG + _length(len(pair) + size) + pair
        return self.rest + _METADATA_TAG + _length(len(metadata) + size) + metadata


class WrittenAnswers:
    """Serialised CheckResponses to rulings. `denial_headers`: what the client is told of a denial."""

    def __init__(self, denial_headers: Sequence[DenialHeader] = ()) -> None:
        self._denial_headers = tuple(denial_headers)
        self._new_each_time = any(one.names("id") for one in denial_headers)
        self._policies: PolicySet | None = None
        self._known: dict[Hashable, _Known] = {}

    def of(self, ruling: Ruling) -> bytes:
        if ruling.policies is not self._policies:
            self._policies, self._known = ruling.policies, {}
        if not self._same_for_all(ruling):
            return _serialized(answer(ruling, self._denial_headers))
        key = _key(ruling.decision)
        known = self._known.get(key)
        if known is None:
            known = self._taken_apart(ruling)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known = {}
            self._known[key] = known
        return known.named(ruling.id)

    def _same_for_all(self, ruling: Ruling) -> bool:
        """The answer says nothing but what the decision says, and its id."""
        return (
            (ruling.changes is NO_CHANGES or not ruling.changes)
            and ruling.refusal is None
            and ruling.token is None
            and not ruling.decision.detail
            and (not self._new_each_time or ruling.decision.allowed)
        )

    def _taken_apart(self, ruling: Ruling) -> _Known:
        response = answer(ruling, self._denial_headers)
        del response.dynamic_metadata.fields["id"]
        metadata = response.dynamic_metadata.SerializeToString()
        response.ClearField("dynamic_metadata")
        return _Known(ruling.decision, metadata, _serialized(response))


def _key(decision: Decision) -> Hashable:
    """The decision of a rule is one object (CompiledRule.decision), but for what dry-run and AUDIT policies add."""
    if decision.dry_run_outcome is None and not decision.audited:
        return id(decision)
    return (
        decision.outcome,
        decision.reason,
        decision.action,
        decision.policy,
        decision.rule,
        decision.dry_run_outcome,
    )


def _length(number: int) -> bytes:
    """A varint: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _serialized(response: external_auth_pb2.CheckResponse) -> bytes:
    serialized: bytes = response.SerializeToString()
    return serialized
