"""Unattended: carries out what is due without a command, and begins with a root that was plugged in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from citadel.ca.model import AuthorityKind, AuthorityState
from citadel.ca.ports import AuthorityStore
from citadel.ca.rotation import patience, plugged
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.execution import Answers, Execution
from citadel.ca.rotation.hooks import Checked, Checks
from citadel.ca.rotation.machine import ACTOR, tick
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.ports import RotationStore
from citadel.ca.rotation.progress import Progress, progress, view
from citadel.ca.rotation.reading import Reader
from citadel.ca.rotation.step import Step
from citadel.ca.rotation.world import World
from citadel.errors import Aborted

_STEPS_AT_ONCE = 64
log = structlog.get_logger("citadel.rotation")


class Unattended:
    """What goes on whether or not anybody looks."""

    def __init__(
        self,
        reader: Reader,
        execution: Execution,
        store: RotationStore,
        authorities: AuthorityStore,
        checks: Checks,
        kind: RootKind,
        begin: Callable[[Wish], Awaitable[str]],
    ) -> None:
        """`kind`: of the roots that a rotation goes to. `begin`: a rotation to the root that was plugged in."""
        self._reader = reader
        self._execution = execution
        self._store = store
        self._authorities = authorities
        self._checks = checks
        self._kind = kind
        self._begin = begin
        self.progress = Progress()  # as run_due last saw it

    async def run_due(self) -> list[str]:
        """Carry out all that is due; a sentence for each step. Raises Unavailable, FailedPrecondition."""
        done: list[str] = []
        answers = Answers()
        if await self._nothing_to_do():  # mostly: then the rest need not be read
            self.progress = Progress()
            return done
        while len(done) < _STEPS_AT_ONCE:
            world = await self._reader.world()
            step = tick(world, self._reader.policy, held=answers.held)
            if step is not None and (checked := self._checks.concerns(step)) is not None:
                step = await self._execution.checked(checked, step, world, answers)
                if step is None:
                    continue
            if step is None:
                self.progress = progress(
                    (view(self._checks.as_now(plan), world, self._reader.policy) for plan in world.open_plans()),
                    world.now,
                )
                break
            try:
                await self._execution.carry_out(step)
            except Aborted:  # another server took it
                continue
            _tell_of_quiet_hours(step, world, self._reader.policy)
            done.append(step.sentence)
        return [*done, *await self._begin_unasked()]

    async def _nothing_to_do(self) -> bool:
        if any(plan.is_open for plan in await self._store.plans()):
            return False
        if self._kind is not RootKind.CACERTS:
            return True
        concerned = (AuthorityState.PREPARED, AuthorityState.RETIRING)  # plugged in, or left without a plan
        known = await self._authorities.authorities()
        return not any(a.kind is AuthorityKind.ROOT and a.state in concerned for a in known)

    async def _begin_unasked(self) -> list[str]:
        """A root that was plugged in is rotated to without a command, if it is configured so."""
        if not self._reader.policy.plugged_by_itself:
            return []
        world = await self._reader.world()
        if plugged.unasked(world) is None or world.distributing() is not None:
            return []
        policy, lives = self._reader.policy, patience.in_force(world)
        latest = patience.begin_by(*lives, policy) if lives else world.now
        if patience.held_until(policy.quiet, world.now, latest) is not None or self._checks.is_too_soon(
            "", Checked.PREPARE
        ):
            return []
        return [await self._begin(Wish(ACTOR, "another root was plugged in"))]


def _tell_of_quiet_hours(step: Step, world: World, policy: RotationPolicy) -> None:
    """Somebody chose those hours: that a step was taken in them is not to be found out by chance."""
    planned = any(plan.planned and not plan.emergency for plan in step.plans)
    if planned and step.audit.action == "root.activate" and policy.quiet.until(world.now) is not None:
        log.warning(
            "a planned step was taken in quiet hours, since a root would have ended in them", step=step.sentence
        )
