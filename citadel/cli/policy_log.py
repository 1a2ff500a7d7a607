"""`citadel policy explain --log-id`: how a decision of the log is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from citadel.api.proto.citadel.v1 import decisions_pb2 as pb
from citadel.authz import PolicySet
from citadel.authz.asking import said_of
from citadel.authz.decision_log import decide_again, logged_request
from citadel.cli.run import printable


class ExplainFormat(StrEnum):
    TEXT = "text"
    TREE = "tree"
    JSON = "json"


def show_decision(found: pb.DecisionExplanation, policies: PolicySet | None, form: ExplainFormat) -> None:
    """Show the record, and what each policy says of it: as the server explains it, or `policies` do."""
    record = json.loads(found.record)
    document: dict[str, Any] = {
        "record": record,
        "version": found.version,
        "stored_version": found.stored_version or None,
        "notes": list(found.notes),
        "explanation": json.loads(found.json) if found.json else None,
    }
    text, tree = found.text, found.tree
    if policies is not None:
        again = decide_again(record, policies)
        explanation = again.explanation
        document |= {"version": policies.version, "stored_version": None, "notes": list(again.notes)}
        document["explanation"] = None if explanation is None else explanation.to_json()
        text, tree = ("", "") if explanation is None else (explanation.to_text(), explanation.to_tree())
    if form is ExplainFormat.JSON:
        print(json.dumps(document, indent=2))
        return
    print(printable(_headline(record)))
    for note in document["notes"]:
        print(printable(f"note: {note}"))
    if told := tree if form is ExplainFormat.TREE else text:
        show_lines(told)


def show_lines(text: str) -> None:
    print("\n".join(printable(line) for line in text.split("\n")))


def _headline(record: Mapping[str, Any]) -> str:
    """`2026-11-24T09:00:00+00:00 deny (denied-by-policy): DENY shop/no-tests, rules[0]: GET /cart/7 of …`"""
    decided = f"{record['at']} {record['outcome']} ({record['reason']})"
    if record["policy"] is not None:
        decided += f": {record['action']} {record['policy']}, rules[{record['rule']}]"
    if record["request"] is None:
        return f"{decided}, asked by {record['caller']}"
    return f"{decided}; {said_of(logged_request(record))}"
