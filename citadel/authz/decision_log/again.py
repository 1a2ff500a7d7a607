"""A record decided once more: whether the same comes out, and what each policy says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from citadel.authz.asking import Asked
from citadel.authz.decision import Decision, Reason
from citadel.authz.evaluate import decide
from citadel.authz.explain import Explanation, explain
from citadel.authz.policyset import PolicySet
from citadel.errors import InvalidInput

_BEFORE_POLICIES = {
    Reason.BAD_TOKEN: "its token was refused, before any policy was asked",
    Reason.NOT_LOADED: "there was no good set of policies yet",
    Reason.UNKNOWN_WORKLOAD: "nobody knew whose policies were asked",
    Reason.BAD_REQUEST: "it was no request that can be decided",
    Reason.INTERNAL_ERROR: "it was a fault of Citadel's own",
}


@dataclass(frozen=True, slots=True)
class Again:
    """What comes of a record."""

    explanation: Explanation | None
    """None: no policy was asked, and none can be."""
    decision: Decision | None
    notes: tuple[str, ...]
    """What has to be known to read it: sentences."""


def decide_again(record: Mapping[str, Any], policies: PolicySet) -> Again:
    """Decide the request of a record by `policies`. Raises InvalidInput if it is no record."""
    notes = []
    reason = record.get("reason")
    before = next((sentence for one, sentence in _BEFORE_POLICIES.items() if one == reason), "")
    if before:
        detail = record.get("detail")
        notes.append(f"{before}{f': {detail}' if detail else ''}")
    if record.get("request") is None:
        return Again(None, None, tuple(notes))
    if altered := record.get("altered"):
        notes.append(f"not as it was, so that this may differ: {', '.join(map(str, altered))}")
    asked = logged_request(record)
    workload, request, answers = asked.workload.value(), asked.request(), asked.answers()
    decision = decide(policies, workload, request, answers)
    if not before and decision.to_json() != {name: record.get(name) for name in decision.to_json()}:
        notes.append(f"decided again, it is {decision.sentence()}; then it was {record['outcome']} ({reason})")
    return Again(explain(policies, workload, request, answers), decision, tuple(notes))


def logged_request(record: Mapping[str, Any]) -> Asked:
    """The request of a record, as `policy check` takes it. Raises InvalidInput."""
    request = record.get("request")
    if not isinstance(request, Mapping):
        raise InvalidInput("the record has no request")
    return Asked.of(dict(request))
