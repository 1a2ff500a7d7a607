"""Rotations: the use cases around the machine, as an operator or the clock asks for them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

from citadel.ca.model import AuthorityState, Skid
from citadel.ca.ports import AuthorityStore
from citadel.ca.rotation import commands, issuing
from citadel.ca.rotation.candidates import orphans, plugged_in, taken
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.cross_signing import CrossSigner
from citadel.ca.rotation.execution import Execution
from citadel.ca.rotation.hooks import Checked, Checks
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.ports import ClientRecord, RootMaker, RotationStore
from citadel.ca.rotation.progress import PlanView, Progress, view
from citadel.ca.rotation.reading import Reader
from citadel.ca.rotation.step import Certified, NewAuthority, Step
from citadel.ca.rotation.unattended import Unattended
from citadel.ca.rotation.world import World
from citadel.clock import Clock
from citadel.errors import Aborted, FailedPrecondition, NotFound
from citadel.failpoints import passing
from citadel.spiffe import TrustDomain


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
        cross: CrossSigner | None = None,
    ) -> None:
        """`changed` is called after each step, so that who signs is read again at once. `kind`: of the roots that a
        rotation goes to, unless it is told."""
        self._checks = checks = checks or Checks((), clock)
        self._reader = Reader(store, authorities, clients, clock, trust_domain, policy)
        self._execution = Execution(self._reader, store, trust_domain, checks, changed)
        self._unattended = Unattended(
            self._reader, self._execution, store, authorities, checks, kind, self._begin_plugged
        )
        self._maker = maker
        self._cross = cross
        self.longest_leaf = longest_leaf
        self._new_id = new_id
        self._kind = kind
        self.policy = policy

    @property
    def progress(self) -> Progress:
        """As run_due last saw it."""
        return self._unattended.progress

    async def world(self, *, whole: bool = False) -> World:
        """As Reader.world."""
        return await self._reader.world(whole=whole)

    async def run_due(self) -> list[str]:
        """As Unattended.run_due."""
        return await self._unattended.run_due()

    async def let_prepare(self, wish: Wish, *, planned: bool = False) -> None:
        """As Execution.let_prepare."""
        await self._execution.let_prepare(wish, planned=planned)

    def is_too_soon_to_prepare(self) -> bool:
        """Whether a hook said no to a new root so lately that it is not asked again yet."""
        return self._checks.is_too_soon("", Checked.PREPARE)

    async def views(self) -> list[PlanView]:
        """Every plan, oldest first."""
        world = await self.world()
        return [view(self._checks.as_now(plan), world, self.policy) for plan in world.plans]

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
        issuer: str = "",
        cross_sign: bool = False,
    ) -> str:
        """Make a root, or take the one that was plugged in, or that of the pinned `issuer` in Vault or of another one,
        and begin to distribute it; what was done, as a sentence, or with `dry_run` would be. `cross_sign`: the root
        that signs certifies it first.

        Raises FailedPrecondition, Unavailable.
        """
        kind = to or self._kind
        world = await self.world()
        replaced = commands.may_prepare(world, replace=replace)
        if cross_sign:
            self._certifier().check(world.authorities)
        if dry_run:
            instead = f", in the place of root {replaced.incoming}" if replaced else ""
            beside = commands.others(world, [replaced.id] if replaced else [])
            crossed = ", certified by the root that signs now" if cross_sign else ""
            return f"{taken(kind, world, issuer)} go into the trust bundle{crossed}{instead}{beside}"
        if not emergency:
            await self.let_prepare(wish, planned=planned)
        if kind is RootKind.CACERTS:
            root, under = plugged_in(world), None
        else:
            # A key that lay there may have been taken with the one that was.
            left = [] if emergency else orphans(world, kind)
            root = next(iter(left), None) or await self._maker.make(kind, issuer)
            passing("rotation.root_made")
            under = await self._maker.make_issuing(root)
            passing("rotation.issuing_made")
        if cross_sign:
            await self._certifier().sign(root.skid, wish)
        plan_id = self._new_id()
        return await self._execution.command(
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
        return await self._execution.command(
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
            return await self._execution.command(lambda world: issuing.rotate(world, brought, wish), dry_run=False)
        return await self._execution.command(
            lambda world: issuing.take_certificate(world, brought, wish), dry_run=False
        )

    async def activate(self, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._execution.command(
            lambda world: commands.activate(world, self.policy, wish), dry_run=dry_run, force=wish.force
        )

    async def remove(self, skid: Skid, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._execution.command(
            lambda world: commands.remove(world, self.policy, skid, wish), dry_run=dry_run, force=wish.force
        )

    async def revoke(self, skid: Skid, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._execution.command(
            lambda world: commands.revoke(world, self.policy, skid, wish), dry_run=dry_run
        )

    async def abandon(self, wish: Wish, *, dry_run: bool = False) -> str:
        return await self._execution.command(lambda world: commands.abandon(world, wish), dry_run=dry_run)

    async def rollback(self, wish: Wish, *, to: Skid | None = None, dry_run: bool = False) -> str:
        """`to`: the root that is to sign again; without it the one before, and that only once."""
        return await self._execution.command(lambda world: commands.rollback(world, wish, to=to), dry_run=dry_run)

    async def taint(self, skid: Skid, wish: Wish, *, unasked: bool = False, dry_run: bool = False) -> str:
        """One command for the whole emergency: of the root that signs now, another is prepared to take its place. Roots
        that certified `skid` are tainted with it; called again, it does what is left."""
        world = await self.world()
        root, certifiers = world.find(skid), commands.certifiers(world, skid)
        done = []
        left = root is None or root.state not in (AuthorityState.TAINTED, AuthorityState.REVOKED)
        if left or not certifiers:
            done.append(await self._taint(skid, wish, unasked=unasked, dry_run=dry_run))
        passing("rotation.certified_tainted")
        for one in certifiers:
            done.append(f"root {one.skid} certified it, so what it signs is trusted while that one is")
            done.append(await self._taint(one.skid, wish, unasked=unasked, dry_run=dry_run))
        return "; ".join(done)

    async def _taint(self, skid: Skid, wish: Wish, *, unasked: bool, dry_run: bool) -> str:
        step = commands.taint(await self.world(), skid, wish, unasked=unasked)
        if step is None:
            try:
                done = await self.prepare(wish, emergency=True, unasked=unasked, dry_run=dry_run)
            except FailedPrecondition:
                if (await self.world()).distributing() is None:
                    raise  # else another rotation began meanwhile: that is the emergency now
            else:
                ends = (
                    f"; it would sign in the place of {skid}, which would be revoked when nothing in use chains to it"
                )
                return done + (ends if dry_run else "")

        def again(world: World) -> Step:
            found = commands.taint(world, skid, wish, unasked=unasked)
            if found is None:
                raise Aborted(f"root {skid} came into force meanwhile", mend="look at: citadel root status")
            return found

        return await self._execution.command(again, dry_run=dry_run)

    async def rotate_issuing(self, wish: Wish, *, dry_run: bool = False) -> str:
        """Another issuing CA under the same root. Raises FailedPrecondition, Unavailable."""
        root = issuing.may_make(await self.world())
        if dry_run:
            return f"another issuing CA would be made under the root {root.skid}, and sign"
        made = await self._maker.make_issuing(root)
        return await self._execution.command(lambda world: issuing.rotate(world, made, wish), dry_run=dry_run)

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
            done.append(
                await self._execution.command(
                    lambda world: _done(issuing.taint(world, skid, made, wish)), dry_run=False
                )
            )
        passing("rotation.issuing_tainted")
        if issuing.needs_another_root(await self.world(), skid):
            done.append(why)
            done.append(await self.taint(one.root_skid, wish, unasked=unasked))
        return "; ".join(done) or f"{skid} is tainted already, and its root on its way out"

    def _certifier(self) -> CrossSigner:
        if self._cross is None:
            raise FailedPrecondition("no root certifies another one here", mend="leave --cross-sign out")
        return self._cross

    async def _begin_plugged(self, wish: Wish) -> str:
        return await self.prepare(wish, to=RootKind.CACERTS, planned=True)


def _done(step: Step | None) -> Step:
    if step is None:
        raise FailedPrecondition("it was tainted meanwhile", mend="see: citadel ca list")
    return step
