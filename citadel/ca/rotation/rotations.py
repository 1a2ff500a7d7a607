"""Rotations: the use cases around the machine. Reads the world, asks the machine, has the store carry out the step."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.ports import AuthorityStore
from citadel.ca.rotation import commands, issuing, plugged
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.gates import Gate, activation_gate, removal_gate
from citadel.ca.rotation.hooks import Checked, Checks, Held, Question, Verdict, question
from citadel.ca.rotation.machine import ACTOR, note_hold, quiet_until, tick
from citadel.ca.rotation.plan import Phase, Plan
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.ports import ClientRecord, RootMaker, RotationStore
from citadel.ca.rotation.progress import PlanView, Progress, progress
from citadel.ca.rotation.step import Certified, NewAuthority, Step
from citadel.ca.rotation.world import World
from citadel.clock import Clock
from citadel.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, Unavailable
from citadel.failpoints import passing
from citadel.spiffe import TrustDomain

_ATTEMPTS = 8
_STEPS_AT_ONCE = 64
log = structlog.get_logger("citadel.rotation")


class _RunTime:
    """Since when our clock has run without a jump: what was timed before a jump is not to be relied upon."""

    def __init__(self, clock: Clock, skew: timedelta) -> None:
        self._clock = clock
        self._skew = skew.total_seconds()
        self.since = clock.now()
        self._off = clock.now().timestamp() - clock.monotonic()

    def look(self) -> None:
        now, off = self._clock.now(), self._clock.now().timestamp() - self._clock.monotonic()
        if abs(off - self._off) > self._skew or now < self.since:
            log.warning("the clock jumped; gates wait as after a start", seconds=round(off - self._off))
            self.since = now
        self._off = off


class Rotations:
    """Rotation of the root of one trust domain.

    Commands return what was done, as a sentence; with `dry_run`, what would be. They raise FailedPrecondition (why not,
    and the mend), NotFound, Unavailable. Several servers may run this on one store: whoever comes second finds the
    state changed (Aborted), reads it again, and decides again.
    """

    def __init__(
        self,
        store: RotationStore,
        authorities: AuthorityStore,
        clients: ClientRecord,
        maker: RootMaker,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: RotationPolicy,
        *,
        longest_leaf: timedelta,
        changed: Callable[[], Awaitable[None]],
        kind: RootKind = RootKind.DISK,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:12],
        checks: Checks | None = None,
    ) -> None:
        """`changed` is called after each step, so that who signs is read again at once. `kind`: of the roots that a
        rotation goes to, unless it is told."""
        self._store = store
        self._authorities = authorities
        self._clients = clients
        self._maker = maker
        self._clock = clock
        self._trust_domain = trust_domain
        self.longest_leaf = longest_leaf
        self._changed = changed
        self._new_id = new_id
        self._kind = kind
        self._checks = checks or Checks((), clock)
        self._run = _RunTime(clock, policy.clock_skew)
        self.policy = policy
        self.progress = Progress()  # as run_due last saw it

    async def world(self, *, whole: bool = False) -> World:
        """Everything, as it is written down now; what clients hold only if a rotation is under way, or `whole`.

        The bundle is read before the authorities (see Records.publish).
        """
        self._run.look()
        now = self._clock.now()
        bundle = await self._authorities.bundle(self._trust_domain)
        plans = await self._store.plans()
        authorities = await self._authorities.authorities()
        under_way = whole or any(plan.is_open for plan in plans)
        return World(
            now=now,
            running_since=self._run.since,
            bundle=bundle,
            authorities=tuple(authorities),
            plans=tuple(plans),
            holdings=tuple(await self._clients.holdings()) if under_way else (),
            leaves=tuple(await self._store.leaves(now - self.policy.clock_skew)) if under_way else (),
        )

    async def views(self) -> list[PlanView]:
        """Every plan, oldest first."""
        world = await self.world()
        return [self._view(plan, world) for plan in world.plans]

    async def run_due(self) -> list[str]:
        """Carry out all that is due; a sentence for each step. Raises Unavailable, FailedPrecondition."""
        done: list[str] = []
        held: set[str] = set()
        if await self._nothing_to_do():  # mostly: then the rest need not be read
            self.progress = Progress()
            return done
        while len(done) < _STEPS_AT_ONCE:
            world = await self.world()
            step = tick(world, self.policy, held=held)
            if step is not None and (checked := self._checks.concerns(step)) is not None:
                step = await self._checked(checked, step, world, held)
                if step is None:
                    continue
            if step is None:
                self.progress = progress((self._view(plan, world) for plan in world.open_plans()), world.now)
                break
            try:
                await self._carry_out(step)
            except Aborted:  # another server took it
                continue
            done.append(step.sentence)
        return [*done, *await self._begin_unasked()]

    async def prepare(
        self,
        wish: Wish,
        *,
        auto: bool = True,
        emergency: bool = False,
        unasked: bool = False,
        replace: bool = False,
        dry_run: bool = False,
        to: RootKind | None = None,
        planned: bool = False,
    ) -> str:
        """Make a root, or take the one that was plugged in, and begin to distribute it; what was done, as a sentence,
        or with `dry_run` would be.

        Raises FailedPrecondition, Unavailable.
        """
        kind = to or self._kind
        world = await self.world()
        replaced = commands.may_prepare(world, replace=replace)
        if dry_run:
            instead = f", in the place of root {replaced.incoming}" if replaced else ""
            beside = commands.others(world, [replaced.id] if replaced else [])
            return f"{_taken(kind, world)} go into the trust bundle{instead}{beside}"
        if not emergency:
            await self.let_prepare(wish, planned=planned)
        if kind is RootKind.CACERTS:
            root, under = _plugged(world), None
        else:
            root = next(iter(orphans(world, kind)), None) or await self._maker.make(kind)
            passing("rotation.root_made")
            under = await self._maker.make_issuing(root)
            passing("rotation.issuing_made")
        plan_id = self._new_id()
        return await self._command(
            lambda world: commands.prepare(
                world,
                root.skid,
                under,
                wish,
                plan_id=plan_id,
                longest_leaf=self.longest_leaf,
                auto=auto,
                emergency=emergency,
                unasked=unasked,
                replace=replace,
                planned=planned,
            ),
            dry_run=dry_run,
        )

    async def let_prepare(self, wish: Wish, *, planned: bool = False) -> None:
        """Raises Held if a hook says no to a new root."""
        if wish.force:
            return
        asked = Question(
            Checked.PREPARE, self._trust_domain.name, actor=wish.actor, reason=wish.reason, planned=planned
        )
        _let_pass(Checked.PREPARE, await self._checks.ask(asked))

    async def begin(
        self,
        root: Skid,
        wish: Wish,
        brought: Certified | NewAuthority | None = None,
        *,
        auto: bool = True,
        replace: bool = False,
    ) -> str:
        """Begin to distribute a root that was brought and written down; under it a CA of ours, made now, or one that
        has its certificate now, or was brought too. Raises as prepare."""
        found = (await self.world()).find(root)
        if found is None:
            raise NotFound(f"there is no root {root}", mend="see: citadel ca list")
        certified = brought if isinstance(brought, Certified) else None
        under = brought if isinstance(brought, NewAuthority) else None
        if brought is None:
            under = await self._maker.make_issuing(found)
        plan_id = self._new_id()
        return await self._command(
            lambda world: commands.prepare(
                world,
                root,
                under,
                wish,
                plan_id=plan_id,
                longest_leaf=self.longest_leaf,
                auto=auto,
                replace=replace,
                certified=certified,
            ),
            dry_run=False,
        )

    async def take_issuing(self, brought: Certified | NewAuthority, wish: Wish) -> str:
        """The CA that waited for its certificate under the root in force, or was brought, signs. Raises
        FailedPrecondition."""
        if isinstance(brought, NewAuthority):
            return await self._command(lambda world: issuing.rotate(world, brought, wish), dry_run=False)
        return await self._command(lambda world: issuing.take_certificate(world, brought, wish), dry_run=False)

    async def activate(self, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._command(
            lambda world: commands.activate(world, self.policy, wish), dry_run=dry_run, force=wish.force
        )

    async def remove(self, skid: Skid, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._command(
            lambda world: commands.remove(world, self.policy, skid, wish), dry_run=dry_run, force=wish.force
        )

    async def revoke(self, skid: Skid, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._command(lambda world: commands.revoke(world, self.policy, skid, wish), dry_run=dry_run)

    async def abandon(self, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._command(lambda world: commands.abandon(world, wish), dry_run=dry_run)

    async def rollback(self, wish: Wish, *, to: Skid | None = None, dry_run: bool = False) -> str:
        """`to`: the root that is to sign again; without it the one before, and that only once."""
        return await self._command(lambda world: commands.rollback(world, wish, to=to), dry_run=dry_run)

    async def taint(self, skid: Skid, wish: Wish, *, unasked: bool = False, dry_run: bool = False) -> str:
        """One command for the whole emergency: of the root that signs now, another is prepared to take its place."""
        step = commands.taint(await self.world(), skid, wish, unasked=unasked)
        if step is None:
            return await self.prepare(wish, emergency=True, unasked=unasked, dry_run=dry_run)

        def again(world: World) -> Step:
            found = commands.taint(world, skid, wish, unasked=unasked)
            if found is None:
                raise Aborted(f"root {skid} came into force meanwhile", mend="look at: citadel root status")
            return found

        return await self._command(again, dry_run=dry_run)

    async def rotate_issuing(self, wish: Wish, *, dry_run: bool = False) -> str:
        """Another issuing CA under the same root. Raises FailedPrecondition, Unavailable."""
        root = issuing.may_make(await self.world())
        if dry_run:
            return f"another issuing CA would be made under the root {root.skid}, and sign"
        made = await self._maker.make_issuing(root)
        return await self._command(lambda world: issuing.rotate(world, made, wish), dry_run=dry_run)

    async def taint_issuing(self, skid: Skid, wish: Wish, *, unasked: bool = False, dry_run: bool = False) -> str:
        """The key of an issuing CA is stolen. Two steps: it signs no more; its root is replaced in an emergency, since
        what it signed verifies for as long as that is trusted. Called again it does what is left."""
        world = await self.world()
        one = issuing.find(world, skid)
        signs = one.state is AuthorityState.ACTIVE
        root = issuing.may_make(world) if signs else None
        why = f"no bundle has it, so none can drop it: what it signed is trusted while root {one.root_skid} is"
        if dry_run:
            return f"{skid} would sign nothing more, and its root would be replaced: {why}"
        made = await self._maker.make_issuing(root) if root else None
        done = []
        if one.state is not AuthorityState.TAINTED:
            done.append(await self._command(lambda world: _done(issuing.taint(world, skid, made, wish)), dry_run=False))
        passing("rotation.issuing_tainted")
        if issuing.needs_another_root(await self.world(), skid):
            done.append(why)
            done.append(await self.taint(one.root_skid, wish, unasked=unasked))
        return "; ".join(done) or f"{skid} is tainted already, and its root on its way out"

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
        if not self.policy.plugged_by_itself:
            return []
        world = await self.world()
        if plugged.unasked(world) is None or world.distributing() is not None:
            return []
        if self.policy.quiet.until(world.now) is not None or self._checks.is_too_soon("", Checked.PREPARE):
            return []
        return [await self.prepare(Wish(ACTOR, "another root was plugged in"), to=RootKind.CACERTS, planned=True)]

    # --- steps

    async def _command(self, decide: Callable[[World], Step], *, dry_run: bool, force: bool = False) -> str:
        """With hooks: what they say is remembered by the plan; nobody asks them about what is forced."""
        for _ in range(_ATTEMPTS):
            world = await self.world()
            step = decide(world)
            checked = None if force else self._checks.concerns(step)
            if dry_run:
                if checked is not None and (hold := _planned_by(step, world).hold) is not None:
                    _let_pass(checked, Verdict(False, hold.why))
                return step.sentence
            if checked is not None:
                verdict = await self._ask(checked, step, world)
                if not verdict.passed:
                    if not verdict.pending:
                        await self._write_hold(checked, step, world, verdict.why)
                    _let_pass(checked, verdict)
            try:
                await self._carry_out(step)
                return step.sentence
            except Aborted:  # the world changed between reading and writing: decide again
                continue
        raise Unavailable("the authorities keep being changed by another server", mend="try again in a minute")

    async def _checked(self, checked: Checked, step: Step, world: World, held: set[str]) -> Step | None:
        """The step, if the hooks let it pass; else what is to be written down of it; None: nothing, and its plan is
        held for now."""
        plan = _planned_by(step, world)
        held.add(plan.id)
        if self._checks.is_too_soon(plan.id, checked):
            return None
        verdict = await self._ask(checked, step, world)
        if verdict.passed:
            held.discard(plan.id)
            return step
        return None if verdict.pending else note_hold(plan, world, checked, verdict.why)

    async def _ask(self, checked: Checked, step: Step, world: World) -> Verdict:
        plan = _planned_by(step, world)
        asked = question(checked, plan, self._trust_domain.name, step.audit.actor, step.audit.reason)
        return await self._checks.ask(asked)

    async def _write_hold(self, checked: Checked, step: Step, world: World, why: str) -> None:
        noted = note_hold(_planned_by(step, world), world, checked, why)
        with suppress(Aborted):  # it has changed meanwhile: then that is what counts
            if noted is not None:
                await self._carry_out(noted)

    async def _carry_out(self, step: Step) -> None:
        passing("rotation.decided", step.audit.action)
        try:
            await self._store.carry_out(step)
        except AlreadyExists as error:
            raise Aborted(error.message) from error
        log.info("rotation", step=step.sentence, actor=step.audit.actor, reason=step.audit.reason)
        await self._changed()
        passing("rotation.refreshed", step.audit.action)

    def _view(self, plan: Plan, world: World) -> PlanView:
        if plan.phase is Phase.DISTRIBUTING:
            gate = activation_gate(plan, world, self.policy)
            over = world.now - plan.phase_at >= self.policy.emergency_gate
            asks = plan.emergency and not plan.unasked and over and not gate.open
            return PlanView(plan, gate, asks, self._held(plan, gate, world))
        if plan.phase is Phase.RETIRING:
            gate = removal_gate(plan, world, self.policy)
            return PlanView(plan, gate, held=self._held(plan, gate, world))
        return PlanView(plan, Gate(open=False))

    def _held(self, plan: Plan, gate: Gate, world: World) -> tuple[str, ...]:
        held = []
        if plan.hold is not None:
            since = plan.hold.since.isoformat(timespec="seconds")
            held.append(f"a hook, which since {since} does not let it {plan.hold.step}: {plan.hold.why}")
        if plan.auto and (until := quiet_until(plan, world, self.policy)) is not None:
            held.append(f"quiet hours until {until.isoformat(timespec='seconds')}")
        if gate.open and plan.phase is Phase.DISTRIBUTING and self.policy.approval and plan.auto and not plan.emergency:
            held.append("your word: citadel root activate")
        return tuple(held)


def _planned_by(step: Step, world: World) -> Plan:
    """The plan that the step takes further, as it is now."""
    return next(plan for plan in world.plans if plan.id == step.plans[0].id)


def _let_pass(checked: Checked, verdict: Verdict) -> None:
    if not verdict.passed:
        raise Held(
            f"a hook does not let it {checked}: {verdict.why}",
            mend="mend what it says, and try again; or override it with --force, which is written down",
        )


def _done(step: Step | None) -> Step:
    if step is None:
        raise FailedPrecondition("it was tainted meanwhile", mend="see: citadel ca list")
    return step


def _taken(kind: RootKind, world: World) -> str:
    match kind:
        case RootKind.DISK:
            return "a new root would be made and"
        case RootKind.CACERTS:
            return f"the plugged-in root {_plugged(world).skid} would"
        case RootKind.VAULT:
            return "the pinned root in Vault would"


def _plugged(world: World) -> Authority:
    found = plugged.ready(world)
    if not found:
        raise FailedPrecondition(
            "no plugged-in root lies ready, with a CA under it, to be rotated to",
            mend="put another CA with its root into the folder (docs/cacerts.md), or: citadel root prepare --to disk",
        )
    return found[-1]


def orphans(world: World, kind: RootKind) -> list[Authority]:
    """Prepared roots of ours that no plan knows: a start was cut off between making one and beginning its plan. (One in
    Vault is found again by whoever makes it: another may be pinned now.)"""
    if kind is not RootKind.DISK:
        return []
    known = {plan.incoming for plan in world.plans}
    return [
        a
        for a in world.authorities
        if a.state is AuthorityState.PREPARED
        and a.kind is AuthorityKind.ROOT
        and a.skid not in known
        and not a.note
        and a.key_source is KeySource.SEALED
    ]
