"""What ca.rotation.ports promises, on both databases; and a whole rotation over them, with real keys."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from citadel.api.holdings import Holdings
from citadel.audit import AuditEvent
from citadel.backup.restoring import Place, accept_present
from citadel.ca.authorities import Authorities, AuthorityPolicy
from citadel.ca.certificates import describe, skid_of
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import (
    Authority,
    AuthorityKind,
    AuthorityState,
    IssuanceIntent,
    IssuanceOutcome,
    KeySource,
    Outcome,
    Skid,
    TrustBundle,
)
from citadel.ca.roots import DiskRoot, IssuingCas, RootMakers
from citadel.ca.rotation import Phase, RootKind, RotationPolicy, Step, commands
from citadel.ca.rotation.calendar import Lifetimes
from citadel.ca.rotation.candidates import orphans
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.hooks import Checks, Held, Question, Verdict
from citadel.ca.rotation.planner import Planner
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.rotation.schedule import Schedule, Waits
from citadel.ca.signers import SealedKeys
from citadel.errors import Aborted, FailedPrecondition, InvalidInput
from citadel.quiet_hours import QuietHours, QuietRange
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store import Store
from citadel.store.high_water import HighWater, read_mark, write_mark
from citadel.workload.upstream import AckKind, AckReport
from tests.support import postgres
from tests.support.cacerts import DAY, make_ca
from tests.support.clock import ManualClock

TD = TrustDomain.parse("example.org")
NODE = f"spiffe://{TD}/spire/agent/local"
CART = SpiffeId.parse(f"spiffe://{TD}/cart")
LEAF = timedelta(hours=1)
POLICY = RotationPolicy(
    reconnect_window=timedelta(seconds=5), session_life=timedelta(seconds=10), clock_skew=timedelta(seconds=1)
)
OPERATOR = Wish("uid:0", "drill")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db/citadel.db"
    base = make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+asyncpg")
    return await postgres.new_database(base.render_as_string(hide_password=False))


class Gatekeeper:
    """A hook that says what it is told to."""

    def __init__(self) -> None:
        self.answer = Verdict(True)
        self.asked: list[str] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None  # what happens while it thinks, once

    async def ask(self, question: Question) -> Verdict:
        self.asked.append(question.step)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        return self.answer


@dataclass
class Site:
    """One server, without a network: its store, its authorities, its rotations."""

    store: Store
    clock: ManualClock
    authorities: Authorities
    rotations: Rotations
    planner: Planner
    hook: Gatekeeper

    async def reports(self, *reports: AckReport) -> None:
        await self.store.clients.record(NODE, reports)

    async def acknowledges(self, client: str) -> None:
        """A client takes everything as it is now, with a leaf of whoever signs."""
        bundle = await self.store.authorities.bundle(TD)
        assert bundle is not None
        now = self.clock.now()
        signer = self.authorities.current().authority.skid
        serial = secrets.randbits(120)
        intent = IssuanceIntent(serial, CART, client, signer, now, now + LEAF, (), "00", NODE, now)
        await self.store.issuance.intend(intent, event(now))
        await self.store.issuance.settle(IssuanceOutcome(serial, Outcome.ISSUED))
        base = AckReport(now, client, "1", AckKind.ACK, "ROOTCA", "type", "v", sequence=bundle.sequence)
        leaf = replace(
            base,
            resource="default",
            sequence=0,
            spiffe_id=CART.uri,
            serial=f"{serial:x}",
            authority=signer.hex,
            not_after=now + LEAF,
        )
        await self.reports(base, leaf)
        async with asyncio.timeout(10):
            while (await self.store.issuance.get(serial)).outcome is None:  # outcomes may lag
                await asyncio.sleep(0.01)

    async def roots(self) -> dict[Skid, AuthorityState]:
        return {a.skid: a.state for a in await self.authorities.all() if a.kind is AuthorityKind.ROOT}


def event(at: object) -> AuditEvent:
    return AuditEvent(at, "test", "x.y", "z")  # type: ignore[arg-type]  # a datetime


@pytest.fixture
async def sites(url: str) -> AsyncIterator[list[Site]]:
    """One site on SQLite; two on one PostgreSQL."""
    clock = ManualClock()
    kek = LocalKek(secrets.token_bytes(32))
    hook = Gatekeeper()
    async with AsyncExitStack() as stack:
        made = []
        for name in ("one", "two") if url.startswith("postgres") else ("one",):
            store = await stack.enter_async_context(Store.open(url, writer=name))
            keyring = Keyring(store.authorities, kek)
            root = DiskRoot(
                store.authorities, keyring, clock, TD, ttl=timedelta(days=3650), issuing_ttl=timedelta(days=7)
            )
            policy = AuthorityPolicy(timedelta(days=7), LEAF)
            authorities = Authorities(store.authorities, keyring, root, clock, TD, policy)
            await authorities.ensure()
            rotations = Rotations(
                store.rotation,
                store.authorities,
                Holdings(store.clients, TD),
                RootMakers(
                    root, IssuingCas(root, SealedKeys(keyring), KeyType.EC_P256, clock), store.authorities, clock, TD
                ),
                clock,
                TD,
                POLICY,
                longest_leaf=LEAF,
                changed=authorities.refresh,
                checks=Checks([hook], clock),
            )
            lives = Lifetimes(timedelta(days=3650), timedelta(days=7), LEAF, 50)
            planner = Planner(rotations, store.rotation, clock, Schedule(), lives, RootKind.DISK)
            made.append(Site(store, clock, authorities, rotations, planner, hook))
        yield made


async def test_a_whole_rotation_from_prepare_to_remove_by_whichever_server_looks_next(sites: list[Site]) -> None:
    first, last = sites[0], sites[-1]
    before = first.authorities.current().authority
    await first.acknowledges("cart")
    await first.rotations.prepare(OPERATOR)
    first.clock.advance(timedelta(seconds=6))
    assert await last.rotations.run_due() == []
    with pytest.raises(FailedPrecondition, match=r"not acknowledged by cart \(silent"):
        await last.rotations.activate(OPERATOR)
    await first.acknowledges("cart")
    [done] = await last.rotations.run_due()
    assert "signs; certificates of" in done
    await first.authorities.refresh()
    after = first.authorities.current().authority
    assert after.root_skid != before.root_skid
    [view] = await first.rotations.views()
    assert view.plan.phase is Phase.RETIRING
    assert view.gate.leaves_left == 2
    await first.acknowledges("cart")
    await first.rotations.run_due()
    first.clock.advance(timedelta(seconds=11))
    await last.rotations.run_due()
    assert await first.roots() == {before.root_skid: AuthorityState.REMOVED, after.root_skid: AuthorityState.ACTIVE}
    bundle = await first.store.authorities.bundle(TD)
    assert bundle is not None
    assert len(bundle.roots) == 1


async def test_after_going_back_to_an_older_database_what_was_acknowledged_counts_no_more(sites: list[Site]) -> None:
    site = sites[0]
    await site.acknowledges("cart")
    await site.rotations.prepare(OPERATOR, auto=False)
    await site.acknowledges("cart")
    site.clock.advance(timedelta(seconds=6))
    (view,) = await site.rotations.views()
    assert view.gate.open
    sequence = await site.store.authorities.raise_sequence(TD, view.plan.sequence + 5, event(site.clock.now()))
    await site.store.rotation.acknowledge_again(sequence, event(site.clock.now()))
    site.clock.advance(timedelta(seconds=6))
    with pytest.raises(FailedPrecondition, match="not acknowledged by cart"):
        await site.rotations.activate(OPERATOR)
    await site.acknowledges("cart")
    await site.rotations.activate(OPERATOR)


async def test_a_database_that_went_back_is_accepted_by_raising_its_bundle_past_what_was_seen(
    url: str, tmp_path: Path
) -> None:
    place = Place(tmp_path, Path("/"), TD, "one")
    async with Store.open(url, writer="one") as store:
        database_id = await store.recognise(place.id)
        await store.authorities.put_bundle(TrustBundle(TD, (make_ca("root").der,), 1, 300), event(ManualClock().now()))
    write_mark(place.mark, HighWater(database_id, 9, "one", 1000))
    if url.startswith("postgres"):
        async with Store.open(url, writer="two") as other, other.alone():
            with pytest.raises(FailedPrecondition, match="1 other server runs on the database"):
                await accept_present(url, place, ManualClock(), "uid:0")
    assert "sequence 1, and clients have seen 9" in await accept_present(url, place, ManualClock(), "uid:0")
    async with Store.open(url, writer="one") as store:
        bundle = await store.authorities.bundle(TD)
    mark = read_mark(place.mark)
    assert bundle is not None
    assert mark is not None
    assert bundle.sequence == mark.bundle_sequence == 10


async def test_of_two_that_take_one_step_at_once_one_is_refused_and_nothing_is_half_done(sites: list[Site]) -> None:
    site = sites[0]
    await site.rotations.prepare(OPERATOR, auto=False)
    step = commands.abandon(await site.rotations.world(), OPERATOR)
    await site.store.rotation.carry_out(step)
    roots, plans = await site.roots(), await site.store.rotation.plans()
    with pytest.raises(Aborted):
        await sites[-1].store.rotation.carry_out(step)
    assert (await site.roots(), await site.store.rotation.plans()) == (roots, plans)


async def test_what_would_leave_two_or_none_that_sign_is_refused_whole(sites: list[Site]) -> None:
    site = sites[0]
    await site.rotations.prepare(OPERATOR, auto=False)
    whole = commands.activate(await site.rotations.world(), POLICY, Wish("uid:0", force=True))
    roots = await site.roots()
    for kept in (whole.moves[:2], whole.moves[2:]):
        half: Step = replace(whole, moves=kept)
        with pytest.raises(Aborted, match="instead of one"):
            await site.store.rotation.carry_out(half)
    assert await site.roots() == roots
    assert [p.phase for p in await site.store.rotation.plans()] == [Phase.DISTRIBUTING]


async def test_a_plan_reads_back_as_it_was_written(sites: list[Site]) -> None:
    site = sites[0]
    await site.acknowledges("cart")
    await site.rotations.prepare(OPERATOR, emergency=True)
    await site.rotations.activate(Wish("uid:7", "hurry", force=True))
    [plan] = await sites[-1].store.rotation.plans()
    assert (plan.actor, plan.reason, plan.revision, plan.emergency) == ("uid:0", "drill", 2, True)
    assert plan.left_behind[0].startswith("cart (silent")
    assert plan.phase_at == site.clock.now()


async def test_a_dry_run_changes_nothing(sites: list[Site]) -> None:
    site = sites[0]
    assert "a new root would be made" in await site.rotations.prepare(OPERATOR, dry_run=True)
    assert len(await site.roots()) == 1
    await site.rotations.prepare(OPERATOR, auto=False)
    roots = await site.roots()
    await site.rotations.abandon(OPERATOR, dry_run=True)
    await site.rotations.activate(Wish("uid:0", force=True), dry_run=True)
    assert await site.roots() == roots


async def test_a_root_that_was_made_and_never_begun_with_is_taken_up(sites: list[Site]) -> None:
    site = sites[0]
    made = await site.rotations._maker.make(RootKind.DISK)
    await site.rotations.prepare(OPERATOR)
    assert (await site.roots())[made.skid] is AuthorityState.DISTRIBUTING


async def test_a_leaf_that_was_only_intended_replaces_nothing(sites: list[Site]) -> None:
    site = sites[0]
    await site.acknowledges("cart")
    old = site.authorities.current().authority.skid
    now = site.clock.now()
    newer = IssuanceIntent(99, CART, "cart", Skid("ab"), now, now + LEAF, (), "00", NODE, now)
    await site.store.issuance.intend(newer, event(now))
    groups = {g.authority: g for g in await site.store.rotation.leaves(now)}
    assert not groups[old].replaced
    await site.store.issuance.settle(IssuanceOutcome(99, Outcome.ISSUED))
    await site.store.issuance.intend(replace(newer, serial=100, entry_id="other"), event(now))  # so that it is written
    groups = {g.authority: g for g in await site.store.rotation.leaves(now) if g.entry_id == "cart"}
    assert groups[old].replaced
    assert not groups[Skid("ab")].replaced
    assert groups[old].by_node


# --- planned ones


async def test_a_planned_rotation_waits_for_its_time_and_for_a_word_and_begins_once(sites: list[Site]) -> None:
    first, last = sites[0], sites[-1]
    assert await first.planner.begin() == ""
    assert "begins at 2034" in await first.planner.approve(Wish("uid:0", "change 7"), dry_run=True)
    first.clock.advance(timedelta(days=3000))  # nobody ran meanwhile
    for site in sites:
        await site.authorities.renew_if_due()
    assert "citadel root approve" in await last.planner.begin()
    assert "begins now" in await first.planner.approve(Wish("uid:0", "change 7"))
    with pytest.raises(FailedPrecondition, match="approved by uid:0 already"):
        await last.planner.approve(Wish("uid:1"))
    assert "is in the trust bundle" in await last.planner.begin()
    assert await first.planner.begin() == ""
    [plan] = await first.store.rotation.plans()
    assert (plan.planned, plan.auto, plan.actor) == (True, True, "system:schedule")
    assert "approved by uid:0" in plan.reason
    assert await first.planner.look() is None
    with pytest.raises(FailedPrecondition, match="no rotation is planned"):
        await first.planner.approve(OPERATOR)


async def test_an_approval_says_when_it_begins_by_the_quiet_hours(sites: list[Site]) -> None:
    site = sites[0]
    quiet = QuietHours((QuietRange.parse("00:00-23:00"),))
    site.planner._schedule = replace(site.planner._schedule, quiet=quiet)
    assert "T23:00:00+00:00, when quiet hours end" in await site.planner.approve(OPERATOR, dry_run=True)
    site.clock.advance(timedelta(days=3000))
    assert "T23:00:00+00:00, when quiet hours end" in await site.planner.approve(OPERATOR, dry_run=True)


async def test_a_word_counts_after_what_it_answers_though_the_clock_was_set_back(sites: list[Site]) -> None:
    site = sites[0]
    site.clock.advance(timedelta(days=3000))
    await site.authorities.renew_if_due()
    await site.planner.approve(OPERATOR)
    assert "is in the trust bundle" in await site.planner.begin()
    site.clock.advance(timedelta(hours=2))
    await site.rotations.abandon(OPERATOR)
    assert "waits for your word" in await site.planner.begin()
    site.clock.jump(-timedelta(hours=1))
    assert "begins now" in await site.planner.approve(OPERATOR)
    assert "is in the trust bundle" in await site.planner.begin()


async def test_a_root_that_was_left_lying_is_taken_up_soon_but_not_in_an_emergency_nor_years_later(
    sites: list[Site],
) -> None:
    site = sites[0]
    left = await site.rotations._maker.make(RootKind.DISK)
    world = await site.rotations.world()
    assert orphans(world, RootKind.DISK) == [left]
    assert orphans(replace(world, now=world.now + timedelta(days=8)), RootKind.DISK) == []
    await site.rotations.taint(site.authorities.current().authority.root_skid, OPERATOR)
    [plan] = await site.store.rotation.plans()
    assert plan.incoming != left.skid, "whoever took the one may have taken the other"


async def test_the_calendar_is_made_of_what_is_written_down(sites: list[Site]) -> None:
    found = await sites[0].planner.calendar(timedelta(days=3650))
    assert found.findings == ()
    assert {entry.event for entry in found.entries} >= {"prepare", "activate", "remove", "renew"}
    with pytest.raises(InvalidInput, match="up to ten years"):
        await sites[0].planner.calendar(timedelta(days=36500))


# --- hooks


async def test_a_hook_that_says_no_holds_the_step_is_written_down_and_asked_again_after_a_time(
    sites: list[Site],
) -> None:
    first, last = sites[0], sites[-1]
    await first.acknowledges("cart")
    await first.rotations.prepare(OPERATOR)
    await first.acknowledges("cart")
    first.hook.answer, first.hook.asked = Verdict(False, "canary is red"), []
    first.clock.advance(timedelta(seconds=6))
    assert len(await last.rotations.run_due()) == 1
    assert await last.rotations.run_due() == []
    assert first.hook.asked == ["activate"]
    [view] = await first.rotations.views()
    assert "canary is red" in view.held[0]
    with pytest.raises(Held, match="canary is red"):
        await first.rotations.activate(OPERATOR)
    with pytest.raises(Held, match="canary is red"):
        await first.rotations.activate(OPERATOR, dry_run=True)
    with_none = Checks([], first.clock)  # after a restart without hooks
    assert with_none.as_now(view.plan).hold is None
    first.hook.answer = Verdict(True)
    first.clock.advance(timedelta(seconds=61))
    assert [one for one in await last.rotations.run_due() if "signs; certificates" in one]
    [view] = await first.rotations.views()
    assert view.held == ()


async def test_a_hook_is_overridden_by_force_which_is_written_down(sites: list[Site]) -> None:
    site = sites[0]
    site.hook.answer = Verdict(False, "canary is red")
    with pytest.raises(Held, match="does not let it prepare: canary is red"):
        await site.rotations.prepare(OPERATOR)
    assert list((await site.roots()).values()) == [AuthorityState.ACTIVE]
    await site.rotations.prepare(replace(OPERATOR, force=True))
    site.clock.advance(timedelta(minutes=6))
    await site.rotations.run_due()
    await site.rotations.activate(replace(OPERATOR, force=True))
    [plan] = await site.store.rotation.plans()
    assert plan.left_behind == ("a hook that did not let it activate: canary is red",)


async def test_an_emergency_asks_no_hook_and_what_is_still_being_asked_is_not_written_down(sites: list[Site]) -> None:
    site = sites[0]
    site.hook.answer = Verdict(False, "another server asks it now", pending=True)
    await site.rotations.prepare(replace(OPERATOR, force=True))
    site.clock.advance(timedelta(minutes=6))
    assert await site.rotations.run_due() == []
    [plan] = await site.store.rotation.plans()
    assert plan.hold is None
    site.hook.asked.clear()
    await site.rotations.taint(site.authorities.current().authority.root_skid, OPERATOR)
    assert [one for one in await site.rotations.run_due() if "signs; certificates" in one]
    assert site.hook.asked == []


@pytest.mark.parametrize("by_command", [True, False])
async def test_a_yes_is_of_no_use_if_somebody_fell_behind_while_the_hook_was_asked(
    sites: list[Site], by_command: bool
) -> None:
    site = sites[0]
    await site.acknowledges("cart")
    await site.rotations.prepare(OPERATOR, auto=not by_command)
    await site.acknowledges("cart")
    site.clock.advance(timedelta(seconds=6))
    rejected = AckReport(site.clock.now(), "late", "1", AckKind.NACK, "ROOTCA", "type", "v", detail="no")
    site.hook.meanwhile = lambda: site.reports(rejected)
    if by_command:
        with pytest.raises(FailedPrecondition, match="not acknowledged by late"):
            await site.rotations.activate(OPERATOR)
    else:
        await site.rotations.run_due()
    [plan] = await site.store.rotation.plans()
    assert plan.phase is Phase.DISTRIBUTING


async def test_what_a_hook_says_after_the_rotation_was_taken_back_changes_nothing(sites: list[Site]) -> None:
    site = sites[0]
    await site.rotations.prepare(OPERATOR)
    site.clock.advance(timedelta(minutes=6))
    site.hook.answer = Verdict(False, "canary is red")
    site.hook.meanwhile = lambda: site.rotations.abandon(OPERATOR)
    assert await site.rotations.run_due() == []
    [plan] = await site.store.rotation.plans()
    assert (plan.phase, plan.hold) == (Phase.ABANDONED, None)


async def test_a_planned_rotation_that_a_hook_holds_is_tried_again(sites: list[Site]) -> None:
    site = sites[0]
    await site.planner.approve(OPERATOR)
    site.clock.advance(timedelta(days=3000))
    await site.authorities.renew_if_due()
    site.hook.answer = Verdict(False, "canary is red")
    assert "canary is red" in await site.planner.begin()
    found = await site.planner.look()
    assert found is not None
    assert found.waits is Waits.CHECK
    site.hook.answer, site.hook.asked = Verdict(True), []
    assert "canary is red" in await site.planner.begin()
    assert site.hook.asked == [], "it is not asked at each look"
    site.clock.advance(timedelta(seconds=61))
    assert "is in the trust bundle" in await site.planner.begin()


async def test_a_plugged_in_root_begins_by_itself_outside_quiet_hours_and_past_the_hook(sites: list[Site]) -> None:
    site = sites[0]
    mine = make_ca("mine", begins=-9 * DAY, ends=9999 * DAY)
    skid, now = skid_of(mine.certificate), site.clock.now()
    certificates, (kind, state) = (describe(mine.certificate),), (AuthorityKind.ROOT, AuthorityState.PREPARED)
    root = Authority(skid, kind, state, TD, KeySource.FILES, certificates, skid, now, now)
    await site.store.authorities.add(root, None, event(now))
    site.rotations._unattended._kind = RootKind.CACERTS
    noon = QuietHours((QuietRange.parse("12:00-13:00"),))  # it is noon
    site.rotations._reader.policy = replace(POLICY, plugged_by_itself=True, quiet=noon)
    assert await site.rotations.run_due() == []
    site.clock.advance(timedelta(hours=1))
    site.hook.answer = Verdict(False, "canary is red")
    with pytest.raises(Held):
        await site.rotations.run_due()
    assert await site.rotations.run_due() == [], "it is not asked each second"
    site.hook.answer = Verdict(True)
    site.clock.advance(timedelta(seconds=61))
    assert "is in the trust bundle" in (await site.rotations.run_due())[0]
    [plan] = await site.store.rotation.plans()
    assert (plan.incoming, plan.planned) == (skid, True)
