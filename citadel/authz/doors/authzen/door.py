"""Evaluation, several evaluations, and searches, as AuthZEN wants them answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from citadel.authz.decision import Reason
from citadel.authz.decision_point import DecisionPoint, Question, Ruling, Standing
from citadel.authz.doors.authzen.mapping import Asked, NamedWorkload, asked
from citadel.authz.doors.authzen.messages import (
    Action,
    ActionSearch,
    ActionSearchAnswer,
    Answer,
    AnswerContext,
    Answers,
    Evaluation,
    Evaluations,
    Fault,
    FoundAction,
    FoundEntity,
    PageAnswer,
    Part,
    Resource,
    ResourceSearch,
    SearchAnswer,
    Subject,
    SubjectSearch,
)
from citadel.authz.doors.authzen.paging import AnySearch, place_of
from citadel.authz.doors.authzen.ports import Workloads
from citadel.authz.entities.directory import EntityDirectory
from citadel.authz.request import Workload
from citadel.authz.tokens import TokenRefused
from citadel.authz.tokens.compact import UnverifiedToken
from citadel.authz.tokens.locations import presented
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, NotFound, Unavailable

DOOR = "authzen"
SEARCH = "authzen_search"
"""The door of what a search asks: nobody is refused by that, so that it is counted apart, and not logged."""
MOST_LOOKED_AT = 5_000
"""Candidates that one page of a search goes through; its token goes on from there."""
_TURN = 100  # candidates, then others have their turn
_NO_CONTEXT: Mapping[str, Any] = {}
_STOPS = {"execute_all": None, "deny_on_first_deny": False, "permit_on_first_permit": True}


@dataclass(frozen=True, slots=True)
class AuthzenRules:
    """What the configuration says."""

    default_workload: NamedWorkload | None = None
    answers_say_why: bool = False


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks."""

    name: str
    """For the log: `uid:1000`, or a SPIFFE ID."""
    states_claims: bool
    """The properties of a subject count, as its claims."""
    request_id: str = ""


class AuthzenDoor:
    """Answers questions. `directory` gives the entities as they are now; None: they could not be read yet."""

    def __init__(
        self,
        point: DecisionPoint,
        workloads: Workloads,
        directory: Callable[[], EntityDirectory | None],
        rules: AuthzenRules,
    ) -> None:
        self._point = point
        self._workloads = workloads
        self._directory = directory
        self._rules = rules

    @property
    def version(self) -> str:
        """Of the policies in force; empty: there are none."""
        return self._point.version

    async def evaluate(self, question: Evaluation, asker: Asker) -> Answer:
        """Raises InvalidInput: what is asked makes no sense."""
        return self._answer(await self._decided(question, asker))

    async def evaluate_all(self, questions: Evaluations, asker: Asker) -> Answers | Answer:
        """Each question is answered by itself; one that makes no sense is denied, and its answer says why.

        Raises InvalidInput if a question lacks what the top does not state either.
        """
        if not questions.evaluations:
            return await self.evaluate(_whole(questions, Part(), ""), asker)
        wholes = [_whole(questions, part, f"evaluations.{n}.") for n, part in enumerate(questions.evaluations)]
        stops_at = _STOPS[questions.options.evaluations_semantic] if questions.options else None
        answers: list[Answer] = []
        for whole in wholes:
            try:
                answer = await self.evaluate(whole, asker)
            except InvalidInput as error:
                fault = Fault(status=error.http, message=error.message)
                answer = Answer(decision=False, context=AnswerContext(error=fault))
            answers.append(answer)
            if answer.decision is stops_at:
                break
        return Answers(evaluations=answers)

    async def subjects(self, search: SubjectSearch, asker: Asker) -> SearchAnswer:
        """Raises as `resources` does."""
        kind = search.subject.type

        def questions(after: str | None) -> Iterator[tuple[str, Evaluation]]:
            for entity in self._entities().of_type(kind, after):
                subject = Subject(type=kind, id=entity.id, properties=search.subject.properties)
                yield (
                    entity.id,
                    Evaluation.model_construct(
                        subject=subject, action=search.action, resource=search.resource, context=search.context
                    ),
                )

        found, page = await self._search(search, questions, asker)
        return SearchAnswer(results=[FoundEntity(type=kind, id=one) for one in found], page=page)

    async def resources(self, search: ResourceSearch, asker: Asker) -> SearchAnswer:
        """Raises InvalidInput (a token that is none, a question that makes no sense), Unavailable (there are no
        policies or entities yet)."""
        kind = search.resource.type

        def questions(after: str | None) -> Iterator[tuple[str, Evaluation]]:
            for entity in self._entities().of_type(kind, after):
                resource = Resource(type=kind, id=entity.id, properties=search.resource.properties)
                yield (
                    entity.id,
                    Evaluation.model_construct(
                        subject=search.subject, action=search.action, resource=resource, context=search.context
                    ),
                )

        found, page = await self._search(search, questions, asker)
        return SearchAnswer(results=[FoundEntity(type=kind, id=one) for one in found], page=page)

    async def actions(self, search: ActionSearch, asker: Asker) -> ActionSearchAnswer:
        """Raises as `resources` does."""

        def questions(after: str | None) -> Iterator[tuple[str, Evaluation]]:
            for action in self._entities().actions_on(search.resource.type, after):
                yield (
                    action.name,
                    Evaluation.model_construct(
                        subject=search.subject,
                        action=Action(name=action.name),
                        resource=search.resource,
                        context=search.context,
                    ),
                )

        found, page = await self._search(search, questions, asker)
        return ActionSearchAnswer(results=[FoundAction(name=one) for one in found], page=page)

    async def _search(
        self, search: AnySearch, questions: Callable[[str | None], Iterator[tuple[str, Evaluation]]], asker: Asker
    ) -> tuple[list[str], PageAnswer | None]:
        """The names of those that are allowed, up to the limit, and the page if there is more, or pages are used."""
        place = place_of(search)
        if not self.version:
            raise Unavailable("there is no good set of policies yet")
        found: list[str] = []
        last = place.after
        senseless: InvalidInput | None = None
        makes_sense = False
        async for number, name, question in _in_turns(questions(place.after)):
            if len(found) == place.limit or number == MOST_LOOKED_AT:
                return found, PageAnswer(next_token=place.token(last or ""), count=len(found))
            try:
                if (await self._decided(question, asker, SEARCH)).decision.allowed:
                    found.append(name)
                makes_sense = True
            except InvalidInput as error:  # of this entity alone, perhaps: then it is no result
                senseless = senseless or error
            last = name
        if senseless is not None and not makes_sense:
            raise senseless
        return found, PageAnswer(next_token="", count=len(found)) if search.page else None

    def _entities(self) -> EntityDirectory:
        directory = self._directory()
        if directory is None:
            raise Unavailable("the directory of entities could not be read yet")
        return directory

    async def _decided(self, question: Evaluation, asker: Asker, door: str = DOOR) -> Ruling:
        """Raises InvalidInput."""
        began = time.perf_counter()
        refuse = partial(self._point.refuse, door, asker.name, began=began)
        directory = self._directory()
        if directory is None:  # what it would have said may be what denies
            return refuse(Reason.NOT_LOADED, "the directory of entities could not be read yet")
        one = asked(
            question.subject,
            question.action,
            question.resource,
            question.context or _NO_CONTEXT,
            directory=directory,
            trust_domains=self._workloads.trust_domains(),
            states_claims=asker.states_claims,
            default_workload=self._rules.default_workload,
        )
        try:
            workload = await self._workload(one)
        except (NotFound, FailedPrecondition) as error:
            return refuse(Reason.UNKNOWN_WORKLOAD, error.message)
        except CitadelError as error:
            return refuse(Reason.INTERNAL_ERROR, error.message)
        standing = self._point.standing()
        if one.token is not None and (wrong := _wrong_token(one, workload, standing)):
            return refuse(Reason.BAD_TOKEN, wrong, standing)
        said = Question(door, asker.name, workload, (one.request,), claims_stated=True, request_id=asker.request_id)
        return await self._point.decide(said, standing, began=began)

    async def _workload(self, one: Asked) -> Workload:
        found = one.workload
        return await self._workloads.find(found.name) if isinstance(found, NamedWorkload) else found

    def _answer(self, ruling: Ruling) -> Answer:
        decision = ruling.decision
        if not self._rules.answers_say_why:
            return Answer(decision=decision.allowed)
        policy = None if decision.policy is None else str(decision.policy)
        context = AnswerContext(id=ruling.id, reason=decision.reason.value, policy=policy, version=ruling.version)
        return Answer(decision=decision.allowed, context=context)


def _wrong_token(one: Asked, workload: Workload, standing: Standing) -> str:
    """Why the subject's raw token cannot be verified, or is none of the subject; empty: the decision point goes on.

    What the token says is not proven yet; but no other will be verified than this one."""
    http = one.request.http
    gate = None if standing.policies is None else standing.for_workload(workload).gate
    if http is None or gate is None or not any(True for rule in gate.rules for _ in presented(rule, http)):
        return "no RequestAuthentication of the workload looks for a token in Authorization, so it cannot be verified"
    try:
        token = UnverifiedToken.parse(one.token or "")
    except TokenRefused as refused:
        return refused.message
    if any(one.user) and (token.issuer, token.claims.get("sub")) != one.user:
        return "the token is one of another subject"
    return ""


def _whole(top: Evaluations, part: Part, place: str) -> Evaluation:
    """The part, with what it leaves out from the top. Raises InvalidInput."""
    members: dict[str, Any] = {}
    for name in ("subject", "action", "resource", "context"):
        given = getattr(part, name)
        if given is None and name in part.model_fields_set and name != "context":
            raise InvalidInput(f"{place}{name}: it is null")
        members[name] = getattr(top, name) if given is None else given
        if members[name] is None and name != "context":
            raise InvalidInput(f"{place}{name}: it is missing")
    return Evaluation.model_construct(**members)


async def _in_turns(
    questions: Iterator[tuple[str, Evaluation]],
) -> AsyncIterator[tuple[int, str, Evaluation]]:
    for number, (name, question) in enumerate(questions):
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        yield number, name, question
