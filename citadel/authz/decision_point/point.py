"""The decision point: every door's questions are decided here, so that all doors decide the same. No transport.

In the order of Envoy's filters: CUSTOM policies, with their providers' answers; the tokens; then all other policies, by
the request as it is by then. Before the first good set, and wherever something fails, the answer is a denial.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from citadel.authz.decision import Decision, Outcome, Reason
from citadel.authz.decision_point.changes import NO_CHANGES, Changes
from citadel.authz.decision_point.ports import (
    DecisionMeter,
    DecisionObserver,
    NoMeter,
    NoProviders,
    ProviderReply,
    Providers,
    RetainedKeys,
)
from citadel.authz.decision_point.question import Question
from citadel.authz.decision_point.ruling import Refusal, Ruling
from citadel.authz.decision_point.standing import Applying, Standing
from citadel.authz.evaluate import Answer, Answers, Consultation, decide, decide_by, evaluate
from citadel.authz.facts import MeshFacts
from citadel.authz.model import Action, JwtRule
from citadel.authz.paths import BadPath
from citadel.authz.policyset import PolicySet
from citadel.authz.request import HttpRequest, Request
from citadel.authz.subject import Subject
from citadel.authz.switches import Switches
from citadel.authz.tokens import KeysUnavailable, NoToken, Rejected, TokenAuthenticator, TokenGate, Verified
from citadel.authz.tokens import Reason as TokenReason
from citadel.clock import Clock

JWT_FILTER = "envoy.filters.http.jwt_authn"
"""In whose dynamic metadata an Envoy leaves what it found in a token."""
MOST_WAITING = 1_000
"""So many decisions may wait at once for somebody else: a provider, or an issuer's keys."""
MOST_WAITING_EACH = 250
"""So many of one caller's, lest the clients of one workload keep all others out."""
_TELL_AGAIN = 60.0  # seconds
_LOOK_AGAIN = 5.0
_KEYS_AT_ONCE = 8
log = structlog.get_logger("citadel.authz")


@dataclass(frozen=True, slots=True)
class _Made:
    """A ruling without what is the same for all."""

    decision: Decision
    request: Request | None = None
    changes: Changes = NO_CHANGES
    refusal: Refusal | None = None
    token: TokenReason | None = None


class DecisionPoint:
    """Decides by the set that `policies` gives: the one in force now, or None before the first good one.

    The switch to another set is one assignment there; a question that is being decided goes on under the set that it
    began with. Keep `run` going beside it, and close `keys` and `providers` after it. Safe from many tasks at once.
    """

    def __init__(
        self,
        policies: Callable[[], PolicySet | None],
        clock: Clock,
        keys: RetainedKeys,
        providers: Providers | None = None,
        *,
        meter: DecisionMeter | None = None,
        observer: DecisionObserver | None = None,
        switches: Switches | None = None,
    ) -> None:
        """`switches`: told whenever `policies` gives another set. Without, a switch is noticed by the next decision."""
        self._policies = policies
        self._clock = clock
        self._keys = keys
        self._authenticator = TokenAuthenticator(keys, clock)
        self._providers = providers or NoProviders()
        self._meter = meter or NoMeter()
        self._observer = observer
        self._standing = Standing(policies())
        self.switches = switches or Switches()
        self._waiting: Counter[str] = Counter()  # by caller
        self._told: dict[str, float] = {}
        self._boot = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    @property
    def version(self) -> str:
        """Of the set in force; empty: there is none yet."""
        return self.standing().version

    def standing(self) -> Standing:
        """The set in force now."""
        policies = self._policies()
        standing = self._standing
        if standing.policies is not policies:
            standing = self._standing = Standing(policies)
            self.switches.happened()
        return standing

    async def decide(
        self, question: Question, standing: Standing | None = None, *, began: float | None = None
    ) -> Ruling:
        """The answer, by `standing` (default: the set in force). Raises nothing but CancelledError.

        `began`: when the question came, of `time.perf_counter`, if that is longer ago."""
        began = time.perf_counter() if began is None else began
        standing = self.standing() if standing is None else standing
        try:
            made = await self._made(standing, question)
        except Exception as defect:  # whatever is wrong with us is no reason to let anybody in
            log.error("a request could not be decided", door=question.door, exc_info=defect)
            made = _Made(_deny(Reason.INTERNAL_ERROR, type(defect).__name__))
        if made.request is None:
            made = replace(made, request=question.readings[0])
        return self._ruled(made, question.door, question.caller, standing, question, began)

    def decide_at_once(
        self,
        question: Question,
        standing: Standing,
        *,
        began: float,
    ) -> Ruling | None:
        """As `decide`, where nobody has to be asked: no provider, no issuer. None: ask `decide`. Raises nothing."""
        try:
            made = self._made_at_once(standing, question)
        except Exception:  # `decide` meets it again, tells it, and denies
            return None
        if made is None:
            return None
        return self._ruled(made, question.door, question.caller, standing, question, began)

    def refuse(
        self, door: str, caller: str, reason: Reason, detail: str, standing: Standing | None = None, *, began: float
    ) -> Ruling:
        """A denial where it does not even come to a question: nobody knows who asks, or what."""
        made = _Made(_deny(reason, detail))
        return self._ruled(made, door, caller, self.standing() if standing is None else standing, None, began)

    async def run(self) -> None:
        """Have the keys of the set in force at hand, and forget those of others, until cancelled."""
        rules: list[JwtRule] | None = None
        while True:
            coming = self.switches.coming
            wanted = self.standing().jwt_rules()
            if wanted != rules:
                await self._keys.retain(wanted)
                rules = wanted
            await self._have_keys(wanted)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await coming.wait()

    async def _have_keys(self, rules: Sequence[JwtRule]) -> None:
        turn = asyncio.Semaphore(_KEYS_AT_ONCE)

        async def have(rule: JwtRule) -> None:
            async with turn:
                with suppress(KeysUnavailable):  # whoever needs them is told
                    await self._keys.keys(rule, "")

        async with asyncio.TaskGroup() as group:
            for rule in {rule.jwks_uri or rule.issuer: rule for rule in rules if not rule.jwks}.values():
                group.create_task(have(rule))

    # --- deciding

    def _made_at_once(self, standing: Standing, question: Question) -> _Made | None:
        """None: there are no policies, or somebody has to be asked."""
        policies = standing.policies
        if policies is None:
            return None
        applying = standing.for_workload(question.workload)
        if applying.asks or applying.gate is not None:
            return None
        readings = _stated(question)
        if len(readings) == 1:
            return _Made(decide_by(applying.policies, policies.facts, readings[0]), readings[0])
        return _strictest([_Made(decide_by(applying.policies, policies.facts, one), one) for one in readings])

    async def _made(self, standing: Standing, question: Question) -> _Made:
        policies = standing.policies
        if policies is None:
            return _Made(_deny(Reason.NOT_LOADED, "there is no good set of policies yet"))
        made = self._made_at_once(standing, question)
        if made is not None:
            return made
        readings = _stated(question)
        applying = standing.for_workload(question.workload)
        caller = question.caller
        if self._waiting[caller] >= MOST_WAITING_EACH or self._waiting.total() >= MOST_WAITING:
            return _Made(_deny(Reason.INTERNAL_ERROR, f"too many decisions wait: {caller}'s, or all"))
        self._waiting[caller] += 1
        try:
            return await self._asking(policies, applying, question, readings)
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    async def _asking(
        self, policies: PolicySet, applying: Applying, question: Question, readings: Sequence[Request]
    ) -> _Made:
        changes, answers = NO_CHANGES, dict[str, Answer]()
        if applying.asks:
            consulted = await self._consulted(policies, question, readings, answers)
            if isinstance(consulted, _Made):
                return consulted
            readings, changes = consulted
        made = [
            await self._authenticated(applying.gate, one, policies.facts, stated=question.claims_stated)
            for one in readings
        ]
        strictest = _strictest([_decided(policies, question, one, answers) for one in made])
        if strictest.decision.allowed and any(one.changes != strictest.changes for one in made):
            return _Made(_deny(Reason.BAD_TOKEN, "the request holds its token in more than one way"), strictest.request)
        return replace(strictest, changes=changes.then(strictest.changes))

    async def _consulted(
        self, policies: PolicySet, question: Question, readings: Sequence[Request], answers: dict[str, Answer]
    ) -> _Made | tuple[Sequence[Request], Changes]:
        """What CUSTOM policies come to: a denial, or the request as their providers left it. Fills `answers`."""
        changes, refusal = NO_CHANGES, None
        while True:
            consultation: Consultation | None = None
            for one in readings:
                found = evaluate(policies, question.workload, _without_claims(one), answers)
                if isinstance(found, Consultation):
                    consultation = consultation or found
                elif found.action is Action.CUSTOM and not found.allowed:
                    return _Made(found, one, refusal=refusal)
            if consultation is None:
                return readings, changes
            provider = consultation.provider
            reply = await self._reply(consultation, policies, readings[0])
            answers[provider.name] = reply.answer
            refusal = reply.refusal
            if reply.answer is Answer.ALLOW and reply.changes:
                changes = changes.then(reply.changes)
                readings = [_changed(one, reply.changes, policies.facts) for one in readings]

    async def _reply(self, consultation: Consultation, policies: PolicySet, request: Request) -> ProviderReply:
        provider = consultation.provider
        http = request.http
        if http is not None:  # the path on which we decide, so that nobody is asked about another
            path = Subject(request, policies.facts).path_and_query or ""
            request = replace(request, http=replace(http, path=path, path_normalized=True))
        reply = await self._providers.ask(provider, _without_claims(request))
        if reply.answer is Answer.FAILED:
            self._tell(
                f"provider {provider.name}", "an extension provider failed", provider=provider.name, why=reply.why
            )
            return replace(reply, refusal=Refusal(provider.status_on_error))
        return reply

    async def _authenticated(
        self, gate: TokenGate | None, request: Request, facts: MeshFacts, *, stated: bool
    ) -> _Made:
        """The request with the claims that count, and the headers that policies are to see, still to be decided; or a
        denial. A header that a rule writes is never the caller's.

        Stated claims and those of a token in the request are never mixed: if there is a token, its claims count alone.
        """
        http = request.http
        if gate is None or http is None:
            return _Made(_UNDECIDED, request)
        verdict = await self._authenticator.authenticate(gate, http)
        match verdict:
            case Rejected(reason, message):
                return _Made(_deny(Reason.BAD_TOKEN, f"{reason}: {message}"), _without_claims(request), token=reason)
            case Verified(claims=claims):
                known = _without_claims(request)
                assert known.http is not None
                known = replace(known, http=replace(known.http, jwt=claims))
                changed = Changes.of_token(verdict.changes)
                return _Made(_UNDECIDED, _changed(known, changed, facts), changed)
            case NoToken(changes=changes):
                if stated and http.jwt is not None:  # who has verified a token has also written of it, and taken out
                    return _Made(_UNDECIDED, request)
                changed = Changes.of_token(changes)
                return _Made(_UNDECIDED, _changed(request, changed, facts), changed)

    # --- telling

    def _ruled(
        self, made: _Made, door: str, caller: str, standing: Standing, question: Question | None, began: float
    ) -> Ruling:
        ruling = Ruling(
            f"{self._boot}-{next(self._numbers):x}",
            self._clock.now(),
            time.perf_counter() - began,
            door,
            caller,
            made.decision,
            standing.policies,
            question,
            made.request,
            made.changes if made.decision.allowed else NO_CHANGES,
            None if made.decision.allowed else made.refusal,
            made.token,
        )
        decision = ruling.decision
        self._meter.decided(door, decision, ruling.seconds)
        if self._observer is not None:
            try:
                self._observer.ruled(ruling)
            except Exception as defect:
                self._tell("observer", "a decision could not be observed", exc_info=defect)
        if not decision.allowed and decision.policy is None and decision.detail:
            self._tell(decision.reason, "a check was denied", reason=decision.reason.value, why=decision.detail[:500])
        return ruling

    def _tell(self, about: str, event: str, **more: object) -> None:
        """What is no policy's doing and somebody should mend, once a minute for each."""
        now = time.monotonic()
        if now - self._told.get(about, -_TELL_AGAIN) >= _TELL_AGAIN:
            self._told[about] = now
            log.warning(event, **more)


_UNDECIDED = Decision(Outcome.DENY, Reason.INTERNAL_ERROR, detail="it was not decided")


def _deny(reason: Reason, detail: str) -> Decision:
    return Decision(Outcome.DENY, reason, detail=detail)


def _decided(policies: PolicySet, question: Question, made: _Made, answers: Answers) -> _Made:
    if made.decision is not _UNDECIDED or made.request is None:
        return made
    return replace(made, decision=decide(policies, question.workload, made.request, answers))


def _stated(question: Question) -> tuple[Request, ...]:
    """The readings, with claims if the caller may state them."""
    readings = question.readings
    if len(readings) == 1 and not readings[0].metadata and ((http := readings[0].http) is None or http.jwt is None):
        return readings  # as almost always
    return readings if question.claims_stated else tuple([_without_claims(one) for one in readings])


def _strictest(made: Sequence[_Made]) -> _Made:
    """The first denial; or, if there is none, the first."""
    return next((one for one in made if not one.decision.allowed), made[0])


def _without_claims(request: Request) -> Request:
    """The request as who may state no claims can state it."""
    http, metadata = request.http, request.metadata
    if http is not None and http.jwt is not None:
        request = replace(request, http=replace(http, jwt=None))
    if JWT_FILTER in metadata:
        kept = {name: value for name, value in metadata.items() if name != JWT_FILTER}
        request = replace(request, metadata=kept)
    return request


def _changed(request: Request, changes: Changes, facts: MeshFacts) -> Request:
    """The request as filters see it that come after `changes`."""
    http: HttpRequest | None = request.http
    if http is None:
        return request
    http = replace(http, headers=changes.applied(http.headers))
    if changes.remove_params:
        with suppress(BadPath):  # which is denied for that
            path = Subject(request, facts).path_and_query or ""
            if (rest := changes.applied_to_path(path)) != path:
                http = replace(http, path=rest, path_verbatim=True)  # it was normalised before, and is not again
    return replace(request, http=http)
