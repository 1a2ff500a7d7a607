"""Execution: a step is decided by the world as it is, shown to the hooks, and carried out by the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.hooks import Checked, Checks, Held, Question, Verdict, question
from citadel.ca.rotation.machine import note_hold
from citadel.ca.rotation.plan import Plan
from citadel.ca.rotation.ports import RotationStore
from citadel.ca.rotation.reading import Reader
from citadel.ca.rotation.step import Step
from citadel.ca.rotation.world import World
from citadel.errors import Aborted, AlreadyExists, Unavailable
from citadel.failpoints import passing
from citadel.spiffe import TrustDomain

_ATTEMPTS = 8
log = structlog.get_logger("citadel.rotation")


@dataclass(frozen=True, slots=True)
class Answers:
    """What hooks said in one look: the plans that they hold, and the questions to which they said yes."""

    held: set[str] = field(default_factory=set)
    passed: set[Question] = field(default_factory=set)


class Execution:
    """How steps are taken, by command or by themselves. Several servers may: whoever comes second finds the state
    changed (Aborted), and decides again."""

    def __init__(
        self,
        reader: Reader,
        store: RotationStore,
        trust_domain: TrustDomain,
        checks: Checks,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._store = store
        self._trust_domain = trust_domain
        self._checks = checks
        self._changed = changed

    async def let_prepare(self, wish: Wish, *, planned: bool = False) -> None:
        """Raises Held if a hook says no to a new root."""
        if wish.force:
            return
        asked = Question(
            Checked.PREPARE, self._trust_domain.name, actor=wish.actor, reason=wish.reason, planned=planned
        )
        _let_pass(Checked.PREPARE, await self._checks.ask(asked))

    async def command(self, decide: Callable[[World], Step], *, dry_run: bool, force: bool = False) -> str:
        """Decide by the world as it is, again if it changed meanwhile, and carry it out.

        Raises what `decide` does, Held, Unavailable.

        With hooks: what they say is remembered by the plan; nobody asks them about what is forced. An answer takes its
        time, so it is decided again after a yes.
        """
        passed: set[Question] = set()
        for _ in range(_ATTEMPTS):
            world = await self._reader.world()
            step = decide(world)
            checked = None if force else self._checks.concerns(step)
            if dry_run:
                if checked is not None and (hold := _planned_by(step, world).hold) is not None:
                    _let_pass(checked, Verdict(False, hold.why))
                return step.sentence
            if checked is not None and (asked := self._question(checked, step, world)) not in passed:
                verdict = await self._checks.ask(asked)
                if not verdict.passed and not verdict.pending:
                    await self._write_hold(checked, step, world, verdict.why)
                _let_pass(checked, verdict)
                passed.add(asked)
                continue
            try:
                await self.carry_out(step)
                return step.sentence
            except Aborted:  # the world changed between reading and writing: decide again
                continue
        raise Unavailable("the authorities keep being changed by another server", mend="try again in a minute")

    async def checked(self, checked: Checked, step: Step, world: World, answers: Answers) -> Step | None:
        """The step, if the hooks have let it pass; else what is to be written down of it; None: read the world again,
        since the hooks were asked, or the plan is held for now."""
        plan, asked = _planned_by(step, world), self._question(checked, step, world)
        if asked in answers.passed:
            return step
        answers.held.add(plan.id)
        if self._checks.is_too_soon(plan.id, checked):
            return None
        verdict = await self._checks.ask(asked)
        if verdict.passed:
            answers.held.discard(plan.id)
            answers.passed.add(asked)
            return None
        return None if verdict.pending else note_hold(plan, world, checked, verdict.why)

    def _question(self, checked: Checked, step: Step, world: World) -> Question:
        plan = _planned_by(step, world)
        return question(checked, plan, self._trust_domain.name, step.audit.actor, step.audit.reason)

    async def _write_hold(self, checked: Checked, step: Step, world: World, why: str) -> None:
        noted = note_hold(_planned_by(step, world), world, checked, why)
        with suppress(Aborted):  # it has changed meanwhile: then that is what counts
            if noted is not None:
                await self.carry_out(noted)

    async def carry_out(self, step: Step) -> None:
        """Raises Aborted if the world is not as the step expects: then nothing was changed; Unavailable: then either
        the whole step was taken, and only the answer lost, or nothing of it."""
        passing("rotation.decided", step.audit.action)
        try:
            await self._store.carry_out(step)
        except AlreadyExists as error:
            raise Aborted(error.message) from error
        except Unavailable:
            await self._read_again()
            raise
        log.info("rotation", step=step.sentence, actor=step.audit.actor, reason=step.audit.reason)
        await self._read_again()
        passing("rotation.refreshed", step.audit.action)

    async def _read_again(self) -> None:
        """Who signs. If that cannot be read now, the step is taken all the same, and whoever follows the authorities
        (server.follow_authorities) reads it as soon as it can be."""
        try:
            await self._changed()
        except Unavailable as error:
            log.warning("who signs cannot be read now", error=error.sentence())


def _planned_by(step: Step, world: World) -> Plan:
    """The plan that the step takes further, as it is now."""
    return next(plan for plan in world.plans if plan.id == step.plans[0].id)


def _let_pass(checked: Checked, verdict: Verdict) -> None:
    if verdict.pending:
        raise Held(f"a hook has not let it {checked} yet: {verdict.why}", mend="try again in a few seconds")
    if not verdict.passed:
        raise Held(
            f"a hook does not let it {checked}: {verdict.why}",
            mend="mend what it says, and try again; or override it with --force, which is written down",
        )
