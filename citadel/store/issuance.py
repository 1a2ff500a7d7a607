"""The issuance log: serial and audit record first, many certificates in one transaction (group commit)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import bindparam, insert, or_, select, update

from citadel.audit import AuditEvent, canonical
from citadel.ca.model import IssuanceIntent, IssuanceOutcome, IssuanceRecord, Outcome, Skid
from citadel.ca.ports import IssuanceQuery
from citadel.errors import AlreadyExists, CitadelError, InvalidInput, NotFound, Unavailable
from citadel.spiffe import SpiffeId
from citadel.store.ledger import Ledger
from citadel.store.tables import EntryRow, IssuanceRow, from_micros, to_micros

_QUEUE = 10_000
_GROUP = 512
_RETRY_SECONDS = 0.5
_T: Any = IssuanceRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
log = structlog.get_logger("citadel.store")


def serial_text(serial: int) -> str:
    return f"{serial:032x}"


@dataclass(frozen=True, slots=True)
class _Intend:
    intent: IssuanceIntent
    audit: AuditEvent
    done: asyncio.Future[None]


class SqlIssuanceLog:
    """Contract: ca.ports.IssuanceLog. `start` and `stop` bound the life of the one task that writes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: asyncio.Queue[_Intend | IssuanceOutcome | None] = asyncio.Queue(_QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._carried: list[IssuanceOutcome] = []  # outcomes that a failed transaction did not take

    def start(self) -> None:
        self._task = asyncio.create_task(self._write(), name="issuance log")

    async def stop(self) -> None:
        """Write what is queued, then end."""
        if self._task is not None:
            await self._queue.put(None)
            await self._task
            self._task = None

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        if self._task is None:
            raise Unavailable("the store is closed")
        _check_text(intent, audit)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Intend(intent, audit, done))
        await done

    async def settle(self, outcome: IssuanceOutcome) -> None:
        await self._queue.put(outcome)

    async def _write(self) -> None:
        ending = False
        while not ending:
            group = [await self._queue.get()]
            with suppress(asyncio.QueueEmpty):
                while len(group) < _GROUP:
                    group.append(self._queue.get_nowait())
            ending = None in group
            intends = [item for item in group if isinstance(item, _Intend) and not item.done.done()]
            outcomes = self._carried + [item for item in group if isinstance(item, IssuanceOutcome)]
            self._carried = await self._commit(intends, outcomes)
            if self._carried and not ending:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _commit(self, intends: list[_Intend], outcomes: list[IssuanceOutcome]) -> list[IssuanceOutcome]:
        """Write a group; the outcomes that could not be written come back."""
        try:
            async with self._ledger.writing() as transaction:
                new = await self._without_used_serials(transaction, intends)
                if new:
                    await transaction.connection.execute(insert(_T), [_row(item.intent) for item in new])
                    transaction.events.extend(item.audit for item in new)
                if outcomes:
                    await transaction.connection.execute(_SETTLE, [_settled(item) for item in outcomes])
        except Exception as fault:  # whatever it is, it must not end the only task that writes: everybody would wait
            error = fault if isinstance(fault, CitadelError) else Unavailable(f"a defect ({type(fault).__name__})")
            for item in intends:
                if not item.done.done():
                    item.done.set_exception(Unavailable(f"nothing could be recorded: {error.message}", mend=error.mend))
            if outcomes:
                log.error(
                    "outcomes of issuance could not be written yet", waiting=len(outcomes), error=error.sentence()
                )
            return outcomes
        for item in new:
            if not item.done.done():  # cancelled callers no longer wait
                item.done.set_result(None)
        return []

    async def _without_used_serials(self, transaction: Any, intends: list[_Intend]) -> list[_Intend]:
        if not intends:
            return []
        serials = [serial_text(item.intent.serial) for item in intends]
        used = {row[0] for row in await transaction.all(select(_T.c.serial).where(_T.c.serial.in_(serials)))}
        new = []
        for item, serial in zip(intends, serials, strict=True):
            if serial in used:
                if not item.done.done():
                    item.done.set_exception(AlreadyExists(f"the serial {serial} was used before"))
            else:
                used.add(serial)
                new.append(item)
        return new

    async def unsettled(self, before: datetime) -> list[IssuanceIntent]:
        query = select(_T).where(_T.c.outcome == "", _T.c.at < to_micros(before))
        async with self._ledger.reading() as transaction:
            return [_record(row).intent for row in await transaction.all(query)]

    async def get(self, serial: int) -> IssuanceRecord:
        async with self._ledger.reading() as transaction:
            row = await transaction.first(select(_T).where(_T.c.serial == serial_text(serial)))
        if row is None:
            raise NotFound(f"no certificate with serial {serial:x} was issued here", mend="see: citadel svid list")
        return _record(row)

    async def find(self, query: IssuanceQuery) -> list[IssuanceRecord]:
        statement = select(_T).order_by(_T.c.number.desc()).limit(query.limit)
        for condition in _conditions(query):
            statement = statement.where(condition)
        async with self._ledger.reading() as transaction:
            return [_record(row) for row in await transaction.all(statement)]

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` settled records of certificates that expired before; how many."""
        old = select(_T.c.number).where(_T.c.not_after < to_micros(before), _T.c.outcome != "").limit(limit)
        async with self._ledger.writing() as transaction:
            result = await transaction.connection.execute(_T.delete().where(_T.c.number.in_(old)))
        return int(result.rowcount)


_SETTLE = (
    update(_T)
    .where(_T.c.serial == bindparam("of"))
    .where(or_(_T.c.outcome == "", _T.c.outcome == str(Outcome.UNKNOWN)))  # no `in_`: it cannot be in an executemany
    .values(outcome=bindparam("how"), fingerprint=bindparam("print"), detail=bindparam("why"))
)


def _settled(item: IssuanceOutcome) -> dict[str, str]:
    return {
        "of": serial_text(item.serial),
        "how": str(item.outcome),
        "print": item.fingerprint,
        "why": item.detail[:1000].encode(errors="replace").decode().replace("\0", "?"),
    }


def _check_text(intent: IssuanceIntent, audit: AuditEvent) -> None:
    """Raises InvalidInput for what no database can hold: in a group it would fail its neighbours too."""
    texts = (intent.entry_id, intent.key_fingerprint, intent.requester, *intent.dns_names)
    try:
        canonical(audit)
        written = " ".join(texts).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("an issuance has text that is no Unicode", mend="send text as UTF-8") from error
    if b"\0" in written:
        raise InvalidInput("an issuance has text with a zero byte", mend="send text without zero bytes")


def _conditions(query: IssuanceQuery) -> list[Any]:
    found: list[Any] = []
    if query.spiffe_id is not None:
        found.append(_T.c.spiffe_id == query.spiffe_id.uri)
    if query.authority is not None:
        found.append(_T.c.authority == query.authority.hex)
    if query.entry_id is not None:
        found.append(_T.c.entry_id == query.entry_id)
    if query.live_at is not None:
        found.append(_T.c.not_after > to_micros(query.live_at))
        found.append(_T.c.outcome != str(Outcome.FAILED))
    if query.expires_before is not None:
        found.append(_T.c.not_after < to_micros(query.expires_before))
    if query.orphaned:
        entries: Any = EntryRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
        found.append(_T.c.entry_id.not_in(select(entries.c.id)))
    if query.after is not None:
        behind = select(_T.c.number).where(_T.c.serial == serial_text(query.after)).scalar_subquery()
        found.append(_T.c.number < behind)
    return found


def _row(intent: IssuanceIntent) -> dict[str, Any]:
    return {
        "serial": serial_text(intent.serial),
        "spiffe_id": intent.spiffe_id.uri,
        "entry_id": intent.entry_id,
        "authority": intent.authority.hex,
        "not_before": to_micros(intent.not_before),
        "not_after": to_micros(intent.not_after),
        "dns_names": " ".join(intent.dns_names),
        "key_fingerprint": intent.key_fingerprint,
        "requester": intent.requester,
        "at": to_micros(intent.at),
        "outcome": "",
        "fingerprint": "",
        "detail": "",
    }


def _record(row: Any) -> IssuanceRecord:
    intent = IssuanceIntent(
        serial=int(row.serial, 16),
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        entry_id=row.entry_id,
        authority=Skid(row.authority),
        not_before=from_micros(row.not_before),
        not_after=from_micros(row.not_after),
        dns_names=tuple(row.dns_names.split()),
        key_fingerprint=row.key_fingerprint,
        requester=row.requester,
        at=from_micros(row.at),
    )
    return IssuanceRecord(intent, Outcome(row.outcome) if row.outcome else None, row.fingerprint, row.detail)
