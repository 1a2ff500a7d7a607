"""citadel.v1.DecisionLog: what was decided, and why. Message in, message out."""

from __future__ import annotations

import json
from typing import Any

from citadel.api.admin.access import Gate
from citadel.api.proto.citadel.v1 import decisions_pb2 as pb
from citadel.api.proto.citadel.v1 import decisions_pb2_grpc
from citadel.api.status import answering
from citadel.authz.decision_log import Lookup


class DecisionLogService(decisions_pb2_grpc.DecisionLogServicer):
    """Each call names its caller, then is a use case of Lookup."""

    def __init__(self, lookup: Lookup, gate: Gate) -> None:
        self._lookup = lookup
        self._gate = gate

    async def ExplainDecision(self, request: pb.ExplainDecisionRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            found = await self._lookup.explain(request.id)
            explanation = found.again.explanation
            answer = pb.DecisionExplanation(
                record=json.dumps(found.record),
                version=found.version,
                stored_version=found.stored_version,
                notes=found.again.notes,
            )
            if explanation is not None:
                answer.json = json.dumps(explanation.to_json())
                answer.text, answer.tree = explanation.to_text(), explanation.to_tree()
            return answer
