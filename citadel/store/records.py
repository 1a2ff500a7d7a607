"""Clients and what they hold, and job runs. Contracts: store.ports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from citadel.changes import Topic
from citadel.store.ledger import Ledger
from citadel.store.ports import ClientHolding, JobRun, Report, Run
from citadel.store.statements import replacing
from citadel.store.tables import ClientRow, JobRow, from_micros, to_micros

_C: Any = ClientRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_J: Any = JobRow.__table__  # type: ignore[attr-defined]  # as above
_TIMES = ("at", "acked_at", "not_after")
_NAMES = tuple(one.name for one in fields(ClientHolding))


class SqlClientStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._upsert = replacing(_C, ("node", "client", "resource"), ("at", "body"), ledger.engine.dialect)

    async def record(self, node: str, reports: Sequence[Report]) -> None:
        if not reports:
            return
        clients = {report.client for report in reports}
        async with self._ledger.writing(topics=[Topic.CLIENTS]) as transaction:
            present = await transaction.all(select(_C).where(_C.c.node == node, _C.c.client.in_(clients)))
            known = {(row.client, row.resource): _holding(row.body) for row in present}
            touched: dict[tuple[str, str], ClientHolding] = {}
            for report in reports:
                for key in _concerned(report, known.keys() | touched.keys()):
                    touched[key] = _merged(touched.get(key) or known.get(key), node, report)
            changed = [(key, holding) for key, holding in touched.items() if holding != known.get(key)]
            rows = [(node, *key, to_micros(holding.at), _body(holding)) for key, holding in changed]
            await self._upsert.run(transaction.connection, rows)

    async def all(self) -> list[ClientHolding]:
        query = select(_C.c.body).order_by(_C.c.node, _C.c.client, _C.c.resource)
        async with self._ledger.reading() as transaction:
            return [_holding(row.body) for row in await transaction.all(query)]

    async def forget(self, before: datetime) -> int:
        async with self._ledger.writing() as transaction:
            rows = await transaction.all(select(_C).where(_C.c.at < to_micros(before)))
            gone = [row for row in rows if _holds_nothing(_holding(row.body), before)]
            for row in gone:
                here = (_C.c.node == row.node) & (_C.c.client == row.client) & (_C.c.resource == row.resource)
                await transaction.connection.execute(delete(_C).where(here))
        return len(gone)


def _concerned(report: Report, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The end of a process is the end of everything that it held."""
    if str(report.kind) == "ended":
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
                nack_detail="",
                spiffe_id=report.spiffe_id,
                sequence=report.sequence,
                serial=report.serial,
                authority=report.authority,
                not_after=report.not_after,
            )
        case "nack":
            return replace(new, version=report.version, nack_detail=report.detail[:1000])
        case "sent":
            return replace(new, version=report.version)
        case _:
            return new


def _holds_nothing(holding: ClientHolding, at: datetime) -> bool:
    return holding.kind == "ended" or holding.not_after is None or holding.not_after < at


def _body(holding: ClientHolding) -> str:
    values = {name: getattr(holding, name) for name in _NAMES}  # asdict copies deeply, which takes ten times as long
    for name in _TIMES:
        if values[name] is not None:
            values[name] = to_micros(values[name])
    return json.dumps(values, separators=(",", ":"))


def _holding(body: str) -> ClientHolding:
    values = json.loads(body)
    for name in _TIMES:
        if values[name] is not None:
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
