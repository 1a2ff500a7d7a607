"""citadel.v1.Rotation: commands and status of root rotation. Message in, message out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from citadel.api.admin import convert, schedule
from citadel.api.admin.access import Gate as Door
from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.api.proto.citadel.v1 import rotation_pb2_grpc
from citadel.api.status import answering
from citadel.ca.model import AuthorityKind, Skid
from citadel.ca.rotation import Behind, Gate, RootKind
from citadel.ca.rotation.approved import ApprovedIssuers
from citadel.ca.rotation.brought import BroughtRoots, How, Request
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.planner import Planner
from citadel.ca.rotation.progress import PlanView
from citadel.ca.rotation.rotations import Rotations
from citadel.errors import InvalidInput, NotFound

_LONGEST_REASON = 1000
_LONGEST_ISSUER = 128
_LARGEST = 256 * 1024
_TWO_YEARS = timedelta(days=730)


class RotationService(rotation_pb2_grpc.RotationServicer):
    """Each call names its caller, then is a use case of Rotations."""

    def __init__(
        self,
        rotations: Rotations,
        planner: Planner,
        brought: BroughtRoots,
        approved: ApprovedIssuers,
        door: Door,
    ) -> None:
        self._rotations = rotations
        self._brought = brought
        self._approved = approved
        self._planner = planner
        self._door = door

    async def ListRotations(self, request: pb.ListRotationsRequest, context: Any) -> Any:
        async def answer(_: str) -> pb.ListRotationsResponse:
            views = await self._rotations.views()
            session = self._rotations.policy.session_life
            return pb.ListRotationsResponse(
                plans=[_plan(v, session) for v in views if request.all or v.plan.is_open],
                requests=map(_request, await self._brought.requests()),
                planned=schedule.planned(await self._planner.look()),
            )

        return await self._answer(context, answer)

    async def PrepareRoot(self, request: pb.PrepareRootRequest, context: Any) -> Any:
        async def answer(actor: str) -> pb.RotationStep:
            if request.certificates or request.key:
                return await self._bring(request, Wish(actor, _reason(request.reason), request.force))
            if request.issuer:
                return await self._approve(request, Wish(actor, _reason(request.reason), request.force))
            done = await self._rotations.prepare(
                Wish(actor, _reason(request.reason), request.force),
                auto=request.automatic,
                replace=request.replace,
                to=_kind(request.to),
                dry_run=request.dry_run,
                cross_sign=request.cross_sign,
            )
            return pb.RotationStep(sentence=done, dry_run=request.dry_run)

        return await self._answer(context, answer)

    async def _approve(self, request: pb.PrepareRootRequest, wish: Wish) -> pb.RotationStep:
        if _kind(request.to) is not RootKind.VAULT:
            raise InvalidInput("only a root in Vault has an issuer that is named", mend="add: --to vault")
        if len(request.issuer) > _LONGEST_ISSUER:
            raise InvalidInput(f"the issuer's id has {len(request.issuer)} characters; see: bao list MOUNT/issuers")
        how = _how(request)
        done = await self._approved.approve(request.issuer, wish, how)
        return pb.RotationStep(sentence=done, dry_run=request.dry_run)

    async def _bring(self, request: pb.PrepareRootRequest, wish: Wish) -> pb.RotationStep:
        how = _how(request)
        if max(map(len, (request.certificates, request.key, request.issuing_key))) > _LARGEST:
            raise InvalidInput(f"the files are larger than {_LARGEST} bytes")
        if request.key:
            done = await self._brought.hand_in(request.certificates, request.key, wish, how)
        elif request.issuing_key:
            done = await self._brought.plug_in(request.certificates, request.issuing_key, wish, how)
        else:
            done = await self._brought.accept(request.certificates, wish, how)
        return pb.RotationStep(sentence=done, dry_run=request.dry_run)

    async def RequestSigning(self, request: pb.RequestSigningRequest, context: Any) -> Any:
        async def answer(actor: str) -> pb.SigningRequest:
            wish = Wish(actor, _reason(request.reason))
            return _request(await self._brought.request(wish, replace_it=request.replace, dry_run=request.dry_run))

        return await self._answer(context, answer)

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Any) -> Any:
        async def answer(_: str) -> pb.Schedule:
            length = timedelta(days=request.days) if request.days else _TWO_YEARS
            return schedule.schedule(await self._planner.calendar(length), self._planner.quiet)

        return await self._answer(context, answer)

    async def ApproveRotation(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command(request, context, self._planner.approve)

    async def ActivateRoot(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command(request, context, self._rotations.activate)

    async def AbandonRoot(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command(request, context, self._rotations.abandon)

    async def RollbackRoot(self, request: pb.RotationCommand, context: Any) -> Any:
        async def back(wish: Wish, *, dry_run: bool) -> str:
            to = await self._root(request.skid) if request.skid else None
            return await self._rotations.rollback(wish, to=to, dry_run=dry_run)

        return await self._command(request, context, back)

    async def RemoveRoot(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command_on(request, context, self._rotations.remove)

    async def RevokeRoot(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command_on(request, context, self._rotations.revoke)

    async def TaintRoot(self, request: pb.TaintRootRequest, context: Any) -> Any:
        async def answer(actor: str) -> pb.RotationStep:
            done = await self._rotations.taint(
                await self._root(request.skid),
                Wish(actor, _reason(request.reason)),
                unasked=request.unasked,
                dry_run=request.dry_run,
            )
            return pb.RotationStep(sentence=done, dry_run=request.dry_run)

        return await self._answer(context, answer)

    async def RotateIssuing(self, request: pb.RotationCommand, context: Any) -> Any:
        return await self._command(request, context, self._rotations.rotate_issuing)

    async def TaintIssuing(self, request: pb.TaintRootRequest, context: Any) -> Any:
        async def answer(actor: str) -> pb.RotationStep:
            done = await self._rotations.taint_issuing(
                await self._find(request.skid, AuthorityKind.ISSUING),
                Wish(actor, _reason(request.reason)),
                unasked=request.unasked,
                dry_run=request.dry_run,
            )
            return pb.RotationStep(sentence=done, dry_run=request.dry_run)

        return await self._answer(context, answer)

    # --- what they share

    async def _answer(self, context: Any, work: Callable[[str], Awaitable[Any]]) -> Any:
        async with answering(context):
            return await work(self._door.actor(context))

    async def _command(self, request: pb.RotationCommand, context: Any, do: Callable[..., Awaitable[str]]) -> Any:
        async def answer(actor: str) -> pb.RotationStep:
            done = await do(Wish(actor, _reason(request.reason), request.force), dry_run=request.dry_run)
            return pb.RotationStep(sentence=done, dry_run=request.dry_run)

        return await self._answer(context, answer)

    async def _command_on(self, request: pb.RotationCommand, context: Any, do: Callable[..., Awaitable[str]]) -> Any:
        async def on_root(wish: Wish, *, dry_run: bool) -> str:
            return await do(await self._root(request.skid), wish, dry_run=dry_run)

        return await self._command(request, context, on_root)

    async def _root(self, text: str) -> Skid:
        return await self._find(text, AuthorityKind.ROOT)

    async def _find(self, text: str, kind: AuthorityKind) -> Skid:
        """The authority whose SKID is, or starts with, `text`. Raises InvalidInput, NotFound."""
        what = "root" if kind is AuthorityKind.ROOT else "issuing CA"
        wanted = text.replace(":", "").lower()
        if not wanted:
            raise InvalidInput(f"no {what} was named", mend="name one by its SKID; see: citadel ca list")
        known = [a.skid for a in (await self._rotations.world()).authorities if a.kind is kind]
        fitting = [s for s in known if s.hex == wanted] or [s for s in known if s.hex.startswith(wanted)]
        if not fitting:
            raise NotFound(f"there is no {what} {text[:80]!r}", mend="see: citadel ca list")
        if len(fitting) > 1:
            raise InvalidInput(
                f"{len(fitting)} {what}s have a SKID that starts with {text[:80]!r}", mend="say more of it"
            )
        return fitting[0]


def _request(one: Request) -> pb.SigningRequest:
    return pb.SigningRequest(
        skid=one.skid.hex, pem=one.pem, created_at=convert.seconds(one.created_at), sentence=one.sentence
    )


def _how(request: pb.PrepareRootRequest) -> How:
    return How(request.automatic, request.replace, request.cross_sign, request.dry_run)


def _kind(text: str) -> RootKind | None:
    try:
        return RootKind(text) if text else None
    except ValueError:
        raise InvalidInput(f"{text[:80]!r} is no kind of root; expected one of: {', '.join(RootKind)}") from None


def _reason(text: str) -> str:
    if len(text) > _LONGEST_REASON:
        raise InvalidInput(f"the reason has {len(text)} characters; at most {_LONGEST_REASON} are kept")
    return text


def _plan(view: PlanView, session_life: timedelta) -> pb.RotationPlan:
    plan = view.plan
    return pb.RotationPlan(
        id=plan.id,
        phase=str(plan.phase),
        incoming=plan.incoming.hex,
        outgoing=plan.outgoing.hex,
        actor=plan.actor,
        reason=plan.reason,
        started_at=convert.seconds(plan.started_at),
        phase_at=convert.seconds(plan.phase_at),
        automatic=plan.auto,
        emergency=plan.emergency,
        asks=view.asks,
        rolled_back=plan.rolled_back,
        gate=_gate(view.gate),
        left_behind=plan.left_behind,
        sequence=plan.sequence,
        planned=plan.planned,
        held=view.held,
        session_seconds=0 if plan.emergency else round(session_life.total_seconds()),
    )


def _gate(gate: Gate) -> pb.RotationGate:
    return pb.RotationGate(
        open=gate.open,
        expected=gate.expected,
        connected=gate.connected,
        acknowledged=gate.acknowledged,
        behind=map(_behind, gate.behind),
        excused=map(_behind, gate.excused),
        assumed=gate.assumed,
        leaves_left=gate.leaves_left,
        opens_at=convert.seconds(gate.opens_at),
        why=gate.why,
    )


def _behind(one: Behind) -> pb.Behind:
    return pb.Behind(
        node=one.node,
        client=one.client,
        standing=str(one.standing),
        since=convert.seconds(one.since),
        sequence=one.sequence,
        detail=one.detail,
    )
