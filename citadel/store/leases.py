"""Leases: which of several servers on one database does something. Contract: jobs.ports.Leases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from citadel.clock import SERVERS_DIFFER
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import MetaRow, to_micros
from citadel.store.whole import whole

_M: Any = MetaRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it


class SqlLeases:
    """A lease is a row of `meta`: `lease:<name>` with `<end in microseconds> <holder>`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def acquire(self, name: str, holder: str, now: datetime, duration: timedelta) -> bool:
        key, new = f"lease:{name}", f"{to_micros(now + duration)} {holder}"
        async with self._ledger.writing() as transaction:
            row = await transaction.first(select(_M.c.value).where(_M.c.key == key))
            if row is None:
                return await _inserted(transaction, key, new)
            end, _, owner = row.value.partition(" ")
            if owner != holder and to_micros(now) < int(end) <= to_micros(now + duration + SERVERS_DIFFER):
                return False
            # The old value in the condition: of two servers that read it at once, one finds it changed.
            taken = update(_M).where(_M.c.key == key, _M.c.value == row.value).values(value=new)
            return bool((await transaction.connection.execute(taken)).rowcount == 1)

    async def release(self, name: str, holder: str) -> None:
        async with self._ledger.writing() as transaction:
            mine = _M.c.value.endswith(f" {holder}", autoescape=True)
            await transaction.connection.execute(delete(_M).where(_M.c.key == f"lease:{name}", mine))


async def _inserted(transaction: Transaction, key: str, value: str) -> bool:
    async def insert_or_leave() -> None:
        async with transaction.connection.begin_nested():
            await transaction.connection.execute(insert(_M).values(key=key, value=value))

    try:
        await whole(insert_or_leave())
    except IntegrityError:  # another server came in between
        return False
    return True
