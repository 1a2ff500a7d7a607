"""Clients and what they hold, and job runs. Contracts: store.ports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, literal, select, tuple_, update

from citadel.changes import Topic
from citadel.store.ledger import Ledger, Transaction
from citadel.store.ports import ClientHolding, ClientKey, JobRun, Report, Run
from citadel.store.statements import replacing
from citadel.store.tables import ClientRow, JobRow, from_micros, to_micros

_C: Any = ClientRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_J: Any = JobRow.__table__  # type: ignore[attr-defined]  # as above
_KEY = (_C.c.node, _C.c.client, _C.c.resource)
_TIMES = ("at", "acked_at", "not_after", "unanswered_since")
_NAMES = tuple(one.name for one in fields(ClientHolding))
ENDED_KEPT = 1000  # rows of each node


class SqlClientStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._upsert = replacing(_C, ("node", "client", "resource"), ("at", "ended_at", "body"), ledger.engine.dialect)

    async def record(self, node: str, reports: Sequence[Report]) -> None:
        if not reports:
            return
        clients = {report.client for report in reports}
        async with self._ledger.writing(topics=[Topic.CLIENTS]) as transaction:
            present = await transaction.all(select(_C).where(_C.c.node == node, _C.c.client.in_(clients)))
            known = {(one.client, one.resource): one for one in _holdings(present)}
            now = _after(known, node, reports)
            for key in known.keys() - now.keys():
                await transaction.connection.execute(delete(_C).where(_here(node, *key)))
            changed = [(key, holding) for key, holding in now.items() if holding != known.get(key)]
            rows = [(node, *key, to_micros(holding.at), _ended(holding), _body(holding)) for key, holding in changed]
            await self._upsert.run(transaction.connection, rows)
            if any(str(report.kind) == "ended" for report in reports):
                await _drop_the_oldest_ended(transaction, node)

    async def page(self, limit: int, after: ClientKey | None = None) -> list[ClientHolding]:
        query = select(_C.c.body).order_by(*_KEY).limit(limit)
        if after is not None:
            query = query.where(tuple_(*_KEY) > tuple_(*map(literal, after)))
        async with self._ledger.reading() as transaction:
            return _holdings(await transaction.all(query))

    async def all(self) -> list[ClientHolding]:
        query = select(_C.c.body).order_by(*_KEY)
        async with self._ledger.reading() as transaction:
            return _holdings(await transaction.all(query))

    async def forget(self, before: datetime) -> int:
        async with self._ledger.writing() as transaction:
            rows = await transaction.all(select(_C).where(_C.c.at < to_micros(before)))
            gone = [one for one in _holdings(rows) if _holds_nothing(one, before)]
            for one in gone:
                await transaction.connection.execute(delete(_C).where(_here(one.node, one.client, one.resource)))
        return len(gone)


def _here(node: str, client: str, resource: str) -> Any:
    return (_C.c.node == node) & (_C.c.client == client) & (_C.c.resource == resource)


async def _drop_the_oldest_ended(transaction: Transaction, node: str) -> None:
    """Who has ended is kept to be looked at, not to be waited for: it may go."""
    ended = select(_C.c.ended_at).where(_C.c.node == node, _C.c.ended_at.is_not(None))
    oldest = ended.order_by(_C.c.ended_at.desc()).offset(ENDED_KEPT).limit(1).scalar_subquery()
    await transaction.connection.execute(delete(_C).where(_C.c.node == node, _C.c.ended_at <= oldest))


def _after(
    known: Mapping[tuple[str, str], ClientHolding], node: str, reports: Sequence[Report]
) -> dict[tuple[str, str], ClientHolding]:
    """What is held after `reports`, by client and resource; what did not change is the same object."""
    now = dict(known)
    for report in reports:
        for key in _concerned(report, now):
            if str(report.kind) != "forgotten":
                now[key] = _merged(now.get(key), node, report)
            elif _holds_nothing(now[key], report.at):
                del now[key]
    return now


def _concerned(report: Report, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The end of a process is the end of everything that it held."""
    if str(report.kind) in ("ended", "forgotten"):
        return [key for key in known if key[0] == report.client]
    return [(report.client, report.resource)]


def _merged(old: ClientHolding | None, node: str, report: Report) -> ClientHolding:
    if old is not None and old.kind == "ended":  # what is heard after it is late
        return old
    base = old or ClientHolding(
        node, report.client, report.resource, report.at, str(report.kind), report.version, report.type_url
    )
    new = replace(base, at=report.at, kind=str(report.kind), type_url=report.type_url or base.type_url)
    match str(report.kind):
        case "ack":
            return replace(
                new,
                version=report.version,
                acked_version=report.version,
                acked_at=report.at,
                unanswered_since=None,
                nack_detail="",
                spiffe_id=report.spiffe_id,
                sequence=report.sequence,
                serial=report.serial,
                authority=report.authority,
                not_after=report.not_after,
            )
        case "nack":
            return replace(new, version=report.version, unanswered_since=None, nack_detail=report.detail[:1000])
        case "sent":
            return replace(new, version=report.version, unanswered_since=base.unanswered_since or report.at)
        case _:
            return new


def _holds_nothing(holding: ClientHolding, at: datetime) -> bool:
    return holding.kind == "ended" or holding.not_after is None or holding.not_after < at


def _ended(holding: ClientHolding) -> int | None:
    return to_micros(holding.at) if holding.kind == "ended" else None


def _body(holding: ClientHolding) -> str:
    values = {name: getattr(holding, name) for name in _NAMES}  # asdict copies deeply, which takes ten times as long
    for name in _TIMES:
        if values[name] is not None:
            values[name] = to_micros(values[name])
    return json.dumps(values, separators=(",", ":"))


def _holdings(rows: Sequence[Any]) -> list[ClientHolding]:
    """All at once, which takes two thirds of the time."""
    return [_holding(values) for values in json.loads(f"[{','.join([row.body for row in rows])}]")]


def _holding(values: dict[str, Any]) -> ClientHolding:
    for name in _TIMES:
        if values.get(name) is not None:
            values[name] = from_micros(values[name])
    return ClientHolding(**values)


class SqlJobStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def record(self, run: Run, /) -> None:
        values = {
            "started_at": to_micros(run.started_at),
            "finished_at": to_micros(run.finished_at),
            "ok": run.ok,
            "detail": run.detail[:1000],
        }
        async with self._ledger.writing() as transaction:
            change = await transaction.connection.execute(update(_J).where(_J.c.name == run.name).values(values))
            if change.rowcount == 0:
                await transaction.connection.execute(insert(_J).values(name=run.name, **values))

    async def last(self) -> dict[str, JobRun]:
        async with self._ledger.reading() as transaction:
            return {
                row.name: JobRun(
                    row.name, from_micros(row.started_at), from_micros(row.finished_at), row.ok, row.detail
                )
                for row in await transaction.all(select(_J))
            }
