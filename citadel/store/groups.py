"""Group commit: many issuances share one durable transaction: a certificate does not cost a sync of the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import bindparam, literal_column, or_, select, update

from citadel.ca.model import Outcome
from citadel.errors import AlreadyExists, CitadelError, Unavailable
from citadel.store.faults import Conflict
from citadel.store.ledger import Ledger, Transaction
from citadel.store.statements import Batch, inserting
from citadel.store.tables import IssuanceRow

_QUEUE = 10_000  # of each kind; who comes later waits
_GROUP = 512  # intents, and as many outcomes, in one transaction
_LAG_SECONDS = 0.1  # how long outcomes wait for intents to travel with
_RETRY_SECONDS = 0.5
_ATTEMPTS = 4  # at a group in which something conflicts with what is stored
_T: Any = IssuanceRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
log = structlog.get_logger("citadel.store")

INTENT = (
    "serial",
    "spiffe_id",
    "entry_id",
    "authority",
    "not_before",
    "not_after",
    "dns_names",
    "key_fingerprint",
    "requester",
    "at",
    "outcome",
    "fingerprint",
    "detail",
)
OUTCOME = ("how", "print", "why", "of")
_SETTLE = (
    update(_T)
    .where(_T.c.serial == bindparam("of"))
    .where(or_(_T.c.outcome == literal_column("''"), _T.c.outcome == literal_column(f"'{Outcome.UNKNOWN}'")))
    .values(outcome=bindparam("how"), fingerprint=bindparam("print"), detail=bindparam("why"))
)
OUTCOME_AS = ("now", *OUTCOME)
_SETTLE_AS = (
    update(_T)
    .where(_T.c.serial == bindparam("of"))
    .values(serial=bindparam("now"), outcome=bindparam("how"), fingerprint=bindparam("print"), detail=bindparam("why"))
)


@dataclass(slots=True, eq=False)
class _Durable:
    """Somebody waits until it is."""

    row: tuple[Any, ...]  # in the order of INTENT, or OUTCOME_AS; the serial that must be new comes first
    body: bytes  # its audit record
    done: asyncio.Future[None]


class GroupCommit:
    """The one task that writes the issuance log; `start` and `stop` bound its life."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._insert = inserting(_T, INTENT, ledger.engine.dialect)
        self._settle = Batch(_SETTLE, OUTCOME, ledger.engine.dialect)
        self._settle_as = Batch(_SETTLE_AS, OUTCOME_AS, ledger.engine.dialect)
        self._intends: deque[_Durable] = deque()
        self._renamed: deque[_Durable] = deque()
        self._outcomes: deque[tuple[Any, ...]] = deque()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._ending = False
        self._task = asyncio.create_task(self._write(), name="issuance log")

    async def stop(self) -> None:
        """Write what is queued, then end."""
        if self._task is None:
            return
        self._ending = True
        self._work.set()
        await self._task
        self._task = None
        if self._later is not None:
            self._later.cancel()

    async def intend(self, row: tuple[Any, ...], body: bytes) -> None:
        """Returns when `row` and `body` are durable. Raises AlreadyExists, Unavailable."""
        await self._durable(self._intends, row, body)

    async def settle_as(self, row: tuple[Any, ...], body: bytes) -> None:
        """As `intend`, of an outcome that comes with another serial."""
        await self._durable(self._renamed, row, body)

    async def _durable(self, queue: deque[_Durable], row: tuple[Any, ...], body: bytes) -> None:
        while len(queue) >= _QUEUE and not self._ending:
            await self._has_room()
        if self._task is None or self._ending:
            raise Unavailable("the store is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(_Durable(row, body, done))
        self._work.set()
        await done

    async def settle(self, row: tuple[Any, ...]) -> None:
        while len(self._outcomes) >= _QUEUE and not self._ending:
            await self._has_room()
        self._outcomes.append(row)
        if len(self._outcomes) >= _GROUP:
            self._work.set()
        elif self._later is None:
            self._write_in(_LAG_SECONDS)

    async def _has_room(self) -> None:
        self._room.clear()
        self._work.set()
        await self._room.wait()

    def _write_in(self, seconds: float) -> None:
        self._later = asyncio.get_running_loop().call_later(seconds, self._work.set)

    async def _write(self) -> None:
        while not self._ending:
            await self._work.wait()
            self._work.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            await self._write_queued()
        for item in (*self._intends, *self._renamed):  # only if the last group failed
            _fail(item, Unavailable("the store is closed"))
        self._room.set()

    async def _write_queued(self) -> None:
        """Group after group, while there is what cannot wait: intents, a whole group of outcomes, anything at the end.
        (The first group takes the outcomes that have waited.)"""
        while self._intends or self._renamed or self._outcomes:
            written = await self._commit(_take(self._intends), _take(self._renamed), _take(self._outcomes))
            self._room.set()
            if not written and self._ending:
                return
            if not written:
                await asyncio.sleep(_RETRY_SECONDS)
            elif not self._intends and not self._renamed and len(self._outcomes) < _GROUP and not self._ending:
                return  # `settle` has seen to it that the rest is written soon

    async def _commit(
        self, taken: Sequence[_Durable], renamed: Sequence[_Durable], outcomes: Sequence[tuple[Any, ...]]
    ) -> bool:
        """Write a group; whether it was. Outcomes that could not be written are queued again."""
        intends = [item for item in taken if not item.done.done()]  # cancelled callers no longer wait
        try:
            new = await self._durably(intends, list(renamed), outcomes)
        except Exception as fault:  # whatever it is, it must not end the only task that writes: everybody would wait
            error = fault if isinstance(fault, CitadelError) else Unavailable(f"a defect ({type(fault).__name__})")
            for item in (*intends, *renamed):
                _fail(item, Unavailable(f"nothing could be recorded: {error.message}", mend=error.mend))
            self._outcomes.extendleft(reversed(outcomes))
            if outcomes:
                log.error(
                    "outcomes of issuance could not be written yet",
                    waiting=len(self._outcomes),
                    error=error.sentence(),
                )
            return False
        for item in new:
            if not item.done.done():
                item.done.set_result(None)
        return True

    async def _durably(
        self, intends: list[_Durable], renamed: list[_Durable], outcomes: Sequence[tuple[Any, ...]]
    ) -> list[_Durable]:
        """Write them in one transaction; those whose serials were not used before. First as if none was: a used serial
        is found by the database's own constraint, and only then looked for."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._ledger.writing(kind="issuance") as transaction:
                    new = intends if attempt == 0 else await _without_used_serials(transaction, intends)
                    named = renamed if attempt == 0 else await _without_used_serials(transaction, renamed)
                    await self._insert.run(transaction.connection, [item.row for item in new])
                    await self._settle_as.run(transaction.connection, [item.row for item in named])
                    transaction.bodies.extend(item.body for item in (*new, *named))
                    await self._settle.run(transaction.connection, list(outcomes))
            except Conflict:
                continue
            return [*new, *named]
        raise Unavailable("other servers write the same serials, or the same audit chain", mend="see audit.writer")


def _take(queue: deque[Any]) -> list[Any]:
    return [queue.popleft() for _ in range(min(len(queue), _GROUP))]


def _fail(item: _Durable, error: CitadelError) -> None:
    if not item.done.done():
        item.done.set_exception(error)


async def _without_used_serials(transaction: Transaction, intends: list[_Durable]) -> list[_Durable]:
    serials = [item.row[0] for item in intends]
    used = {row[0] for row in await transaction.all(select(_T.c.serial).where(_T.c.serial.in_(serials)))}
    new = []
    for item, serial in zip(intends, serials, strict=True):
        if serial in used:
            _fail(item, AlreadyExists(f"the serial {serial} was used before"))
        else:
            used.add(serial)
            new.append(item)
    return new
