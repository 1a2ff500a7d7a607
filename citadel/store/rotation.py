"""Plans of rotation, and their steps as transactions. Contract: ca.rotation.ports.RotationStore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from citadel.audit import AuditEvent
from citadel.ca.model import AuthorityKind, AuthorityState, KeySource, Outcome, Skid
from citadel.ca.rotation import Excused, Hold, LeafGroup, Phase, Plan, Step
from citadel.ca.rotation.schedule import Approval
from citadel.changes import Topic
from citadel.errors import Aborted
from citadel.failpoints import passing
from citadel.store.authorities import SqlAuthorityStore
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import AuthorityRow, IssuanceRow, MetaRow, RotationRow, from_micros, to_micros

_R: Any = RotationRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_A: Any = AuthorityRow.__table__  # type: ignore[attr-defined]  # as above
_I: Any = IssuanceRow.__table__  # type: ignore[attr-defined]  # as above
_M: Any = MetaRow.__table__  # type: ignore[attr-defined]  # as above
_APPROVED = "rotation:approved:"  # keys of `meta`, each with the root's SKID
_AGENTS = "/spire/agent/"


class SqlRotationStore:
    def __init__(self, ledger: Ledger, authorities: SqlAuthorityStore) -> None:
        self._ledger = ledger
        self._authorities = authorities

    async def plans(self) -> list[Plan]:
        async with self._ledger.reading() as transaction:
            return [_plan(row.body) for row in await transaction.all(select(_R.c.body).order_by(_R.c.number))]

    async def leaves(self, at: datetime) -> list[LeafGroup]:
        live = (
            select(
                _I.c.authority,
                _I.c.requester,
                _I.c.entry_id,
                _I.c.spiffe_id,
                func.count().label("count"),
                func.max(_I.c.not_after).label("not_after"),
                func.max(_I.c.number).label("newest"),
            )
            .where(_I.c.not_after > to_micros(at), _I.c.outcome != str(Outcome.FAILED))
            .group_by(_I.c.authority, _I.c.requester, _I.c.entry_id, _I.c.spiffe_id)
        )
        # What is on record and not known to be signed replaces nothing: perhaps nobody ever got it.
        issued = (
            select(_I.c.requester, _I.c.entry_id, _I.c.authority, func.max(_I.c.number).label("newest"))
            .where(_I.c.not_after > to_micros(at), _I.c.outcome == str(Outcome.ISSUED))
            .group_by(_I.c.requester, _I.c.entry_id, _I.c.authority)
        )
        async with self._ledger.reading() as transaction:
            groups = await transaction.all(live)
            newest = await transaction.all(issued)
        last: dict[tuple[str, str], tuple[int, str]] = {}
        for row in newest:
            key = (row.requester, row.entry_id)
            last[key] = max(last.get(key, (0, "")), (row.newest, row.authority))
        return [_group(row, last.get((row.requester, row.entry_id), (0, ""))) for row in groups]

    async def approvals(self) -> list[Approval]:
        async with self._ledger.reading() as transaction:
            rows = await transaction.all(select(_M.c.key, _M.c.value).where(_M.c.key.startswith(_APPROVED)))
        return [_approval(row.key.removeprefix(_APPROVED), row.value) for row in rows]

    async def approve(self, approval: Approval, audit: AuditEvent) -> None:
        key = f"{_APPROVED}{approval.root.hex}"
        value = json.dumps([approval.actor, to_micros(approval.at), approval.reason])
        async with self._ledger.writing(audit, topics=[Topic.ROTATION]) as transaction:
            await transaction.one_at_a_time("authorities")
            await transaction.connection.execute(delete(_M).where(_M.c.key == key))
            await transaction.connection.execute(insert(_M).values(key=key, value=value))

    async def carry_out(self, step: Step) -> None:
        topics = {Topic.ROTATION}
        if step.moves or step.new:
            topics.add(Topic.AUTHORITIES)
        async with self._ledger.writing(step.audit, topics=topics) as transaction:
            # The same order everywhere (authorities, bundles), so that two servers never wait for one another.
            await transaction.one_at_a_time("authorities")
            await self._move(transaction, step)
            for one in step.certified:
                await self._authorities.certify(transaction, one.skid, one.certificate, one.chain)
                await self._authorities.put_under(transaction, one.skid, one.root)
            for new in step.new:
                await self._authorities.insert(transaction, new.authority, new.key)
            if step.moves or step.new:
                await _check_one_signs(transaction)
            for plan in step.plans:
                await _write_plan(transaction, plan)
            if step.bundle is not None:
                await self._authorities.write_bundle(transaction, step.bundle)
            passing("rotation.written", step.audit.action)
        passing("rotation.committed", step.audit.action)

    async def acknowledge_again(self, sequence: int, audit: AuditEvent) -> None:
        """The database went back: what is on record as acknowledged was of another bundle than `sequence`, which
        clients get from now on. Plans under way wait for that one, and excuse nobody yet."""
        if not any(plan.is_open for plan in await self.plans()):
            return
        async with self._ledger.writing(audit, topics=[Topic.ROTATION]) as transaction:
            await transaction.one_at_a_time("authorities")
            for row in await transaction.all(select(_R.c.body)):
                plan = _plan(row.body)
                if plan.is_open:
                    again = replace(plan, sequence=sequence, phase_at=audit.at, excused=(), replaced_at=None)
                    await _write_plan(transaction, replace(again, revision=plan.revision + 1))

    async def _move(self, transaction: Transaction, step: Step) -> None:
        """Those that stop signing first: at no moment are there two."""
        for move in sorted(step.moves, key=lambda m: m.to is AuthorityState.ACTIVE):
            await self._authorities.move(transaction, move.skid, move.expected, move.to, step.audit.at, move.note)


async def _check_one_signs(transaction: Transaction) -> None:
    """One root and one issuing CA; or a plugged-in root that signs leaves itself, alone."""
    rows = await transaction.all(select(_A.c.kind, _A.c.key_source).where(_A.c.state == str(AuthorityState.ACTIVE)))
    sources = {kind: [row.key_source for row in rows if row.kind == str(kind)] for kind in AuthorityKind}
    alone = sources[AuthorityKind.ROOT] == [str(KeySource.FILES)] and not sources[AuthorityKind.ISSUING]
    for kind, found in sources.items():
        if len(found) != 1 and not (alone and kind is AuthorityKind.ISSUING):
            raise Aborted(f"there would be {len(found)} active {kind} authorities instead of one")


async def _write_plan(transaction: Transaction, plan: Plan) -> None:
    values = {"id": plan.id, "revision": plan.revision, "body": _body(plan)}
    if plan.revision == 1:
        if await transaction.first(select(_R.c.id).where(_R.c.id == plan.id)):
            raise Aborted(f"the rotation {plan.id} is known already")
        await transaction.connection.execute(insert(_R), [values])
        return
    mine = (_R.c.id == plan.id) & (_R.c.revision == plan.revision - 1)
    if (await transaction.connection.execute(update(_R).where(mine).values(values))).rowcount != 1:
        raise Aborted(f"the rotation {plan.id} has changed meanwhile")


def _group(row: Any, last: tuple[int, str]) -> LeafGroup:
    number, authority = last
    return LeafGroup(
        authority=Skid(row.authority),
        requester=row.requester,
        entry_id=row.entry_id,
        spiffe_id=row.spiffe_id,
        count=row.count,
        not_after=from_micros(row.not_after),
        replaced=number > row.newest and authority != row.authority,
        by_node=_AGENTS in row.requester,
    )


def _approval(root: str, value: str) -> Approval:
    actor, at, reason = json.loads(value)
    return Approval(Skid(root), actor, from_micros(at), reason)


_TIMES = ("started_at", "phase_at", "replaced_at")


def _body(plan: Plan) -> str:
    values = asdict(plan)
    values["incoming"], values["outgoing"] = plan.incoming.hex, plan.outgoing.hex
    for name in _TIMES:
        values[name] = None if values[name] is None else to_micros(values[name])
    values["hold"] = plan.hold and [plan.hold.step, plan.hold.why, to_micros(plan.hold.since)]
    values["excused"] = [[e.node, e.client, to_micros(e.since), to_micros(e.at)] for e in plan.excused]
    return json.dumps(values, separators=(",", ":"))


def _plan(body: str) -> Plan:
    values = json.loads(body)
    for name in _TIMES:
        values[name] = None if values[name] is None else from_micros(values[name])
    values["incoming"], values["outgoing"] = Skid(values["incoming"]), Skid(values["outgoing"])
    values["phase"] = Phase(values["phase"])
    values["excused"] = tuple(_excused(e) for e in values["excused"])
    if values.get("hold"):
        step, why, since = values["hold"]
        values["hold"] = Hold(step, why, from_micros(since))
    values["left_behind"] = tuple(values["left_behind"])
    return Plan(**values)


def _excused(values: Sequence[Any]) -> Excused:
    node, client, since, at = values
    return Excused(node, client, from_micros(since), from_micros(at))
