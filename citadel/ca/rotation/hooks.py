"""Hooks: checks of the operator's own that a step has to pass. The port, and when it is asked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import structlog

from citadel.ca.rotation.plan import Plan
from citadel.ca.rotation.step import Step
from citadel.clock import Clock
from citadel.errors import CitadelError, FailedPrecondition

log = structlog.get_logger("citadel.rotation")


class Checked(StrEnum):
    """The steps that may be checked."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    REMOVE = "remove"


_ACTIONS = {"root.activate": Checked.ACTIVATE, "root.remove": Checked.REMOVE}


@dataclass(frozen=True, slots=True)
class Question:
    """May this step be taken? Before `prepare` there is no plan yet, nor an incoming root."""

    step: Checked
    trust_domain: str
    plan: str = ""
    incoming: str = ""
    outgoing: str = ""
    actor: str = ""
    reason: str = ""
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why`: what it said, for people. `pending`: there is no answer yet, since somebody else is asking now."""

    passed: bool
    why: str = ""
    pending: bool = False


class Hook(Protocol):
    """Implementations: hooks.command, hooks.webhook."""

    async def ask(self, question: Question) -> Verdict:
        """Its answer, within a stated time; what cannot be asked, or does not answer, says no. Never raises."""


class Held(FailedPrecondition):
    """A hook says no. Nothing was changed."""


class Checks:
    """All hooks as one. An emergency is never asked about: whoever has the stolen key does not wait either."""

    def __init__(
        self,
        hooks: Collection[Hook],
        clock: Clock,
        *,
        steps: Collection[Checked] = tuple(Checked),
        again: float = 60.0,
    ) -> None:
        """`again`: how many seconds after a no it is asked anew."""
        self._hooks = tuple(hooks)
        self._steps = frozenset(steps)
        self._clock = clock
        self._again = again
        self._asked: dict[tuple[str, Checked], float] = {}

    def concern(self, step: Checked) -> bool:
        return bool(self._hooks) and step in self._steps

    def concerns(self, step: Step) -> Checked | None:
        """What is to be asked before it, if anything."""
        checked = _ACTIONS.get(step.audit.action)
        if checked is None or not self.concern(checked) or any(plan.emergency for plan in step.plans):
            return None
        return checked

    def as_now(self, plan: Plan) -> Plan:
        """The plan without what was said by hooks that nobody asks any more."""
        if plan.hold is None or self.concern(Checked(plan.hold.step)):
            return plan
        return replace(plan, hold=None)

    def is_too_soon(self, plan_id: str, step: Checked) -> bool:
        """Whether it said no so lately that it is not asked again yet."""
        last = self._asked.get((plan_id, step))
        return last is not None and self._clock.monotonic() - last < self._again

    async def ask(self, question: Question) -> Verdict:
        """The first no, or a yes of all of them."""
        if not self.concern(question.step):
            return Verdict(True)
        for hook in self._hooks:
            verdict = await _answer(hook, question)
            if verdict.pending:
                return verdict
            told = {"step": str(question.step), "plan": question.plan, "said": verdict.why}
            if not verdict.passed:
                self._asked[question.plan, question.step] = self._clock.monotonic()
                log.warning("a hook holds up a rotation", **told)
                return verdict
            log.info("a hook lets a rotation pass", **told)
        self._asked.pop((question.plan, question.step), None)
        return Verdict(True)


async def _answer(hook: Hook, question: Question) -> Verdict:
    try:
        return await hook.ask(question)
    except CitadelError:  # of the store, say: that is told to whoever wants the step
        raise
    except Exception as error:  # the last line of defence: a hook that breaks its contract says no, and ends nobody
        log.exception("a hook failed", step=str(question.step), plan=question.plan)
        return Verdict(False, f"asking it failed ({type(error).__name__}); the log says how")


def question(step: Checked, plan: Plan, trust_domain: str, actor: str, reason: str) -> Question:
    return Question(
        step, trust_domain, plan.id, plan.incoming.hex, plan.outgoing.hex, actor, reason or plan.reason, plan.planned
    )
