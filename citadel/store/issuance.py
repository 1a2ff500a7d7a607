"""The issuance log: what was to be signed, how that ended, and ways to ask for it. `groups` writes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import literal_column, select

from citadel.audit import AuditEvent, canonical
from citadel.ca.model import IssuanceIntent, IssuanceOutcome, IssuanceRecord, Outcome, Skid
from citadel.ca.ports import IssuanceQuery
from citadel.errors import InvalidInput, NotFound
from citadel.spiffe import SpiffeId
from citadel.store.groups import GroupCommit
from citadel.store.ledger import Ledger
from citadel.store.tables import EntryRow, IssuanceRow, from_micros, to_micros

_T: Any = IssuanceRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it


def serial_text(serial: int) -> str:
    return f"{serial:032x}"


class SqlIssuanceLog:
    """Contract: ca.ports.IssuanceLog. `start` and `stop` bound the life of the one task that writes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._groups = GroupCommit(ledger)

    def start(self) -> None:
        self._groups.start()

    async def stop(self) -> None:
        """Write what is queued, then end."""
        await self._groups.stop()

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        await self._groups.intend(_row(intent), _body(audit))

    async def settle(self, outcome: IssuanceOutcome) -> None:
        await self._groups.settle(_settled(outcome))

    async def settle_as(self, outcome: IssuanceOutcome, serial: int, audit: AuditEvent) -> None:
        await self._groups.settle_as((serial_text(serial), *_settled(outcome)), _body(audit))

    async def unsettled(self, before: datetime) -> list[IssuanceIntent]:
        query = select(_T).where(_T.c.outcome == literal_column("''"), _T.c.at < to_micros(before))
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


def _settled(item: IssuanceOutcome) -> tuple[str, ...]:
    """In the order of groups.OUTCOME."""
    detail = item.detail[:1000].encode(errors="replace").decode().replace("\0", "?") if item.detail else ""
    return str(item.outcome), item.fingerprint, detail, serial_text(item.serial)


def _body(audit: AuditEvent) -> bytes:
    """The audit record as it is stored. Raises InvalidInput."""
    try:
        return canonical(audit)
    except UnicodeEncodeError as error:
        raise InvalidInput("an issuance has text that is no Unicode", mend="send text as UTF-8") from error


def _text(*texts: str) -> tuple[str, ...]:
    """Raises InvalidInput for what no database can hold: in a group it would fail its neighbours too."""
    whole = "".join(texts)
    if not whole.isascii():
        try:
            whole.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("an issuance has text that is no Unicode", mend="send text as UTF-8") from error
    if "\0" in whole:
        raise InvalidInput("an issuance has text with a zero byte", mend="send text without zero bytes")
    return texts


def _conditions(query: IssuanceQuery) -> list[Any]:
    found: list[Any] = []
    if query.spiffe_id is not None:
        found.append(_T.c.spiffe_id == query.spiffe_id.uri)
    if query.authority is not None:
        found.append(_T.c.authority == query.authority.hex)
    if query.entry_id is not None:
        found.append(_T.c.entry_id == query.entry_id)
    if query.serial_prefix:  # a range, so that the index serves; "g" comes after all hex digits
        found += [_T.c.serial >= query.serial_prefix, _T.c.serial < query.serial_prefix + "g"]
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


def _row(intent: IssuanceIntent) -> tuple[Any, ...]:
    """In the order of groups.INTENT. Raises InvalidInput."""
    entry, names, key, requester = _text(
        intent.entry_id, " ".join(intent.dns_names), intent.key_fingerprint, intent.requester
    )
    return (
        serial_text(intent.serial),
        intent.spiffe_id.uri,
        entry,
        intent.authority.hex,
        to_micros(intent.not_before),
        to_micros(intent.not_after),
        names,
        key,
        requester,
        to_micros(intent.at),
        "",  # no outcome yet
        "",
        "",
    )


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
