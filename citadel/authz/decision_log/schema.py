"""The JSON Schema of a record: docs/schema/decision-log-v1.json is made from it (scripts/generate-docs)."""

from __future__ import annotations

from typing import Any

from citadel.authz.asking import REQUEST_SCHEMA, decision_schema
from citadel.authz.decision_log.record import SCHEMA


def record_schema() -> dict[str, Any]:
    text, integer = {"type": "string"}, {"type": "integer"}
    decision = decision_schema()
    decided = {name: decision["properties"][name] for name in decision["required"] if name != "schema"}
    properties = {
        "schema": {"const": SCHEMA},
        "id": {**text, "description": "As the door gave it; for `citadel policy explain --log-id`."},
        "at": {**text, "format": "date-time"},
        "door": {**text, "description": "Which door was asked: ext_authz, authzen, …"},
        "caller": {**text, "description": "Who asked, as attested."},
        "request_id": {**text, "description": "x-request-id or the like; empty: there was none."},
        "microseconds": {**integer, "description": "From the question to the answer."},
        "version": {**text, "description": "Of the set of policies; empty: there was none yet."},
        **decided,
        "status": {**integer, "description": "The HTTP status that the client gets."},
        "jwt_fault": {"type": ["string", "null"], "description": "What was wrong with the token, for bad-token."},
        "request": {
            "anyOf": [{"$ref": REQUEST_SCHEMA}, {"type": "null"}],
            "description": "What policies look at, as `citadel policy check` takes it; null: it came to no question.",
        },
        "altered": {
            "type": "array",
            "items": text,
            "description": "What of the request is not as it was: masked, cut, or no text. Empty: it decides the same.",
        },
    }
    return {
        "$id": SCHEMA,
        "title": "DecisionRecord",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
