"""Planner: the use cases around the schedule. What is planned, what would break, approval, and the beginning of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from citadel.audit import AuditEvent
from citadel.ca.model import Skid
from citadel.ca.rotation.calendar import Calendar, Lifetimes, calendar
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.hooks import Held
from citadel.ca.rotation.policy import RootKind
from citadel.ca.rotation.ports import RotationStore
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.rotation.schedule import ACTOR, Approval, Planned, Schedule, Waits, planned
from citadel.ca.rotation.world import World
from citadel.clock import Clock
from citadel.errors import Aborted, FailedPrecondition, InvalidInput
from citadel.quiet_hours import QuietHours

log = structlog.get_logger("citadel.rotation")
LONGEST = timedelta(days=3660)
_TRIED_AGAIN = (Waits.CHECK, Waits.ANOTHER_ROOT)  # what only trying shows to be over


class Planner:
    """Planned rotation of one trust domain's root. Several servers may ask; one of them begins it (jobs.rotation)."""

    def __init__(
        self,
        rotations: Rotations,
        store: RotationStore,
        clock: Clock,
        schedule: Schedule,
        lives: Lifetimes,
        kind: RootKind,
        *,
        makes_roots: bool = True,
    ) -> None:
        """`makes_roots`: the next root is made by us, so that what comes after it is known too."""
        self._rotations = rotations
        self._store = store
        self._clock = clock
        self._schedule = schedule
        self._lives = lives
        self._kind = kind
        self._makes_roots = makes_roots
        self._failed: tuple[Skid, Waits, str] | None = None  # why the last beginning was refused
        self._told = ""

    @property
    def quiet(self) -> QuietHours:
        return self._schedule.quiet

    async def look(self) -> Planned | None:
        """What is planned next, and what it waits for. Raises Unavailable."""
        return await self._planned(await self._rotations.world())

    async def begin(self) -> str:
        """Begin what is due; a sentence on it, or on what it waits for; "" if nothing is due. Raises Unavailable."""
        found = await self.look()
        if found is None or found.waits is Waits.TIME:
            return ""
        if found.waits not in (Waits.NOTHING, *_TRIED_AGAIN):
            self._tell(found)
            return found.why
        if found.waits is Waits.CHECK and self._rotations.is_too_soon_to_prepare():
            return found.why
        approved = f", approved by {found.approved.actor}" if found.approved else ""
        reason = f"planned for {found.at.isoformat(timespec='seconds')}{approved}"
        if self._schedule.quiet.until(self._clock.now()) is not None:
            reason += "; in quiet hours, since it could not wait for their end"
        try:
            done = await self._rotations.prepare(Wish(ACTOR, reason), planned=True)
        except Aborted:
            return "another rotation began meanwhile"
        except FailedPrecondition as refusal:
            waits = Waits.CHECK if isinstance(refusal, Held) else Waits.ANOTHER_ROOT
            self._failed = (found.root, waits, refusal.sentence())
            self._tell(replace(found, waits=waits, why=refusal.sentence()))
            return refusal.sentence()
        self._failed, self._told = None, ""
        if "in quiet hours" in reason:
            log.warning(
                "a planned rotation began in quiet hours: its root would have ended in them", root=found.root.hex
            )
        return done

    async def approve(self, wish: Wish, *, dry_run: bool = False) -> str:
        """An operator's word for the planned rotation. Raises FailedPrecondition if there is nothing to approve."""
        found = await self.look()
        if found is None:
            raise FailedPrecondition(
                "no rotation is planned that could be approved",
                mend="see: citadel root plan, citadel root status; or rotate now: citadel root rotate",
            )
        if found.approved is not None:
            raise FailedPrecondition(
                f"the rotation away from root {found.root} was approved by {found.approved.actor} already"
                + (f"; {found.why}" if found.why else ""),
                mend="see: citadel root plan",
            )
        if not found.needs_approval:
            raise FailedPrecondition(
                f"the rotation away from root {found.root} needs no approval; {found.why}",
                mend="see: citadel root plan",
            )
        when = "begins now"
        world = await self._rotations.world()
        begins = self._schedule.begins_at(world, found.at)
        if begins > world.now:
            when = f"begins at {begins.isoformat(timespec='seconds')}"
            when += ", when quiet hours end" if begins > found.at else ""
        sentence = f"the rotation away from root {found.root} {'would be' if dry_run else 'is'} approved, and {when}"
        if not dry_run:
            at = self._clock.now()
            detail = {"planned_for": found.at.isoformat(timespec="seconds")}
            event = AuditEvent(at, wish.actor, "root.approve", found.root.hex, dict(detail), wish.reason)
            # After what it answers, also by a clock that was set back since.
            given = max(at, found.taken_back or at)
            await self._store.approve(Approval(found.root, wish.actor, given, wish.reason), event)
            log.info("rotation", step=sentence, actor=wish.actor, reason=wish.reason)
        return sentence

    async def calendar(self, length: timedelta) -> Calendar:
        """From now on for `length`. Raises InvalidInput, Unavailable."""
        if not timedelta(0) < length <= LONGEST:
            raise InvalidInput(f"a calendar of {length} cannot be made; ask for up to ten years")
        world = await self._rotations.world(whole=True)
        until: datetime = world.now + length
        return calendar(
            world,
            self._rotations.policy,
            self._schedule,
            self._lives,
            self._kind,
            self._makes_roots,
            await self._planned(world),
            until,
        )

    async def _planned(self, world: World) -> Planned | None:
        found = planned(world, self._schedule, await self._store.approvals(), self._kind)
        if found is None or self._failed is None:
            return found
        root, waits, why = self._failed
        if root != found.root:
            self._failed = None
            return found
        return replace(found, waits=waits, why=why) if found.waits is Waits.NOTHING else found

    def _tell(self, found: Planned) -> None:
        """In the log when it becomes so, not at each look."""
        if found.why != self._told:
            log.warning("a planned rotation waits", root=found.root.hex, waits=str(found.waits), why=found.why)
        self._told = found.why
