"""citadel.v1.Authorization on grpc.aio. A denial is an answer, never an error; so is a question that makes no sense."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from citadel.api.authorization.askers import Askers, NobodyKnown
from citadel.api.authorization.messages import request_of
from citadel.api.authorization.watching import Watching
from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.api.proto.citadel.v1 import authorization_pb2_grpc
from citadel.api.status import answering
from citadel.authz.decision import Match, Reason
from citadel.authz.decision_point import DecisionPoint, Question, Ruling
from citadel.authz.explain import explain
from citadel.errors import InvalidInput, PermissionDenied

DOOR = "grpc"
EXPLAIN = "explain"
MOST_QUESTIONS = 1_000
_TURN = 50  # questions of a batch, then others have their turn


class CheckService(authorization_pb2_grpc.AuthorizationServicer):
    """The calls, for those whom `askers` knows."""

    def __init__(self, point: DecisionPoint, askers: Askers) -> None:
        self._point = point
        self._askers = askers
        self._watching = Watching(lambda: point.version, point.switches)

    def add_to(self, server: grpc.aio.Server) -> None:
        authorization_pb2_grpc.add_AuthorizationServicer_to_server(self, server)

    async def Check(self, request: pb.AuthorizationQuestion, context: Any) -> Any:
        began = time.perf_counter()
        async with answering(context):
            (ruling,) = await self._ruled(DOOR, [request], context, began)
            return answer_of(ruling)

    async def BatchCheck(self, request: pb.BatchCheckRequest, context: Any) -> Any:
        began = time.perf_counter()
        async with answering(context):
            if len(request.questions) > MOST_QUESTIONS:
                raise InvalidInput(f"questions: there are {len(request.questions)}, and {MOST_QUESTIONS} at most")
            rulings = await self._ruled(DOOR, request.questions, context, began)
            return pb.BatchCheckResponse(answers=map(answer_of, rulings))

    async def Explain(self, request: pb.AuthorizationQuestion, context: Any) -> Any:
        began = time.perf_counter()
        async with answering(context):
            (ruling,) = await self._ruled(EXPLAIN, [request], context, began)
            return _explained(ruling)

    async def WatchVersion(self, request: pb.WatchVersionRequest, context: Any) -> AsyncIterator[Any]:
        async with answering(context):
            try:
                caller = await self._askers.caller(context)
            except NobodyKnown as unknown:
                raise PermissionDenied(str(unknown)) from None
            async with aclosing(self._watching.versions(str(getattr(caller, "name", caller)))) as versions:
                async for version in versions:
                    yield pb.VersionInForce(version=version)

    async def _ruled(self, door: str, questions: Any, context: Any, began: float) -> list[Ruling]:
        try:
            caller = await self._askers.caller(context)
        except NobodyKnown as unknown:
            refused = self._point.refuse(door, unknown.caller, unknown.reason, str(unknown), began=began)
            return [refused] * len(questions)
        rulings = []
        for number, question in enumerate(questions):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
                began = time.perf_counter()
            rulings.append(await self._one(door, question, caller, began))
        return rulings

    async def _one(self, door: str, question: pb.AuthorizationQuestion, caller: object, began: float) -> Ruling:
        try:
            asker = await self._askers.asker(caller, question.workload)
        except NobodyKnown as unknown:
            return self._point.refuse(door, unknown.caller, unknown.reason, str(unknown), began=began)
        standing = self._point.standing()
        ours = () if standing.policies is None else standing.policies.facts.domains
        try:
            request = request_of(question.request, asker.believed.of(ours))
        except InvalidInput as error:
            return self._point.refuse(door, asker.name, Reason.BAD_REQUEST, error.message, began=began)
        claims = asker.believed.claims
        asked = Question(door, asker.name, asker.workload, (request,), claims, question.request_id)
        return await self._point.decide(asked, standing, began=began)


def answer_of(ruling: Ruling) -> pb.AuthorizationAnswer:
    decision = ruling.decision
    answer = pb.AuthorizationAnswer(
        allowed=decision.allowed,
        reason=decision.reason.value,
        action="" if decision.action is None else decision.action.value,
        policy="" if decision.policy is None else str(decision.policy),
        audited=map(_match, decision.audited),
        dry_run=map(_match, decision.dry_run),
        dry_run_outcome="" if decision.dry_run_outcome is None else decision.dry_run_outcome.value,
        http_status=ruling.status,
        version=ruling.version,
        id=ruling.id,
        detail=decision.detail,
    )
    if decision.rule is not None:
        answer.rule = decision.rule
    return answer


def _match(match: Match) -> pb.PolicyMatch:
    return pb.PolicyMatch(policy=str(match.policy), rule=match.rule, action=match.action.value)


def _explained(ruling: Ruling) -> pb.ExplainResponse:
    """Of what was decided: with the claims of a verified token, if there was one."""
    answer = pb.ExplainResponse(answer=answer_of(ruling), detail=ruling.decision.detail)
    if ruling.policies is None or ruling.question is None or ruling.request is None:
        answer.text = answer.tree = ruling.decision.sentence()
        return answer
    explanation = explain(ruling.policies, ruling.question.workload, ruling.request)
    explanation = replace(explanation, found=ruling.decision)  # providers and tokens had their say in it
    answer.text, answer.tree = explanation.to_text(), explanation.to_tree()
    answer.json = json.dumps(explanation.to_json())
    return answer
