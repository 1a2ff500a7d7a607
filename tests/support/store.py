"""What the tests of the store share: empty databases of both kinds, intents and audit records to write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from citadel.audit import GENESIS, AuditEvent, link
from citadel.ca.model import IssuanceIntent, Skid
from citadel.spiffe import SpiffeId
from citadel.store import Store

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def execute(url: str, *statements: str) -> None:
    """Do to a database what no program of ours does to it."""
    drivers = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
    parsed = make_url(url)
    engine = create_async_engine(parsed.set(drivername=drivers[parsed.drivername]), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


def intent(serial: int, *, at: datetime = NOW, spiffe_id: str = "spiffe://example.org/web") -> IssuanceIntent:
    return IssuanceIntent(
        serial, SpiffeId.parse(spiffe_id), "e1", Skid("aa"), at, at + timedelta(hours=1), ("a.b",), "ff", "uid:0", at
    )


def event(subject: str = "x", *, at: datetime = NOW) -> AuditEvent:
    return AuditEvent(at, "uid:0", "svid.issue", subject)


async def issue(store: Store, *serials: int) -> None:
    for serial in serials:
        await store.issuance.intend(intent(serial), event(str(serial)))


async def chain_is_whole(store: Store, writer: str) -> int:
    """How many links the chain has; fails unless it is whole from the first to the last."""
    tip, count = GENESIS, 0
    while lines := await store.audit.read(writer, count, 10_000):
        for line in lines:
            count += 1
            tip = link(tip, writer, count, line.body)
            assert (line.sequence, line.hash) == (count, tip)
    return count
