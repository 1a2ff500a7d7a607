"""The audit log in the database: chains, checkpoints, keys. Contracts: audit.ports.AuditLog and OwnChain."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update

from citadel.audit import AuditEvent, AuditKey, Checkpoint, Kind
from citadel.audit.ports import AuditLine, SealedAuditKey
from citadel.errors import AlreadyExists, NotFound
from citadel.store.faults import Conflict
from citadel.store.ledger import Ledger
from citadel.store.tables import AuditCheckpointRow, AuditKeyRow, AuditRow

_L: Any = AuditRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_P: Any = AuditCheckpointRow.__table__  # type: ignore[attr-defined]  # as above
_K: Any = AuditKeyRow.__table__  # type: ignore[attr-defined]  # as above


class SqlAuditLog:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def writer(self) -> str:
        return self._ledger.writer

    def tip(self) -> tuple[int, bytes] | None:
        return self._ledger.tip()

    async def grown_to(self, sequence: int) -> None:
        await self._ledger.grown_to(sequence)

    async def writers(self) -> list[str]:
        async with self._ledger.reading() as transaction:
            found = await transaction.all(select(_L.c.writer).union(select(_P.c.writer)))
        return sorted(row[0] for row in found)

    async def read(self, writer: str, after: int, limit: int) -> list[AuditLine]:
        query = select(_L).where(_L.c.writer == writer, _L.c.sequence > after).order_by(_L.c.sequence).limit(limit)
        async with self._ledger.reading() as transaction:
            return [
                AuditLine(row.writer, row.sequence, _blob(row.hash), _blob(row.body))
                for row in await transaction.all(query)
            ]

    async def checkpoints(self, writer: str) -> list[Checkpoint]:
        query = select(_P).where(_P.c.writer == writer).order_by(_P.c.number)
        async with self._ledger.reading() as transaction:
            return [
                Checkpoint(
                    Kind.BASE if row.base else Kind.TIP,
                    row.writer,
                    row.sequence,
                    bytes(row.hash),
                    row.at,
                    row.key_id,
                    bytes(row.signature),
                )
                for row in await transaction.all(query)
            ]

    async def keys(self) -> list[SealedAuditKey]:
        async with self._ledger.reading() as transaction:
            return [
                SealedAuditKey(AuditKey(bytes(row.public)), row.kek_id, bytes(row.ciphertext))
                for row in await transaction.all(select(_K).order_by(_K.c.number))
            ]

    async def add_key(self, key: SealedAuditKey, audit: AuditEvent) -> None:
        values = {"number": 1, "public": key.key.der, "kek_id": key.kek_id, "ciphertext": key.ciphertext}
        try:
            async with self._ledger.writing(audit) as transaction:
                await transaction.connection.execute(insert(_K).values(values))
        except Conflict as error:
            raise AlreadyExists("there is an audit key already") from error

    async def replace_key(self, key: SealedAuditKey, audit: AuditEvent) -> None:
        change = update(_K).where(_K.c.public == key.key.der).values(kek_id=key.kek_id, ciphertext=key.ciphertext)
        async with self._ledger.writing(audit) as transaction:
            if (await transaction.connection.execute(change)).rowcount != 1:
                raise NotFound(f"there is no audit key {key.key.id[:16]}")

    async def record(self, *events: AuditEvent) -> None:
        async with self._ledger.writing(*events):
            pass

    async def add_checkpoint(self, checkpoint: Checkpoint, *audit: AuditEvent) -> None:
        values = {
            "writer": checkpoint.writer,
            "base": checkpoint.kind is Kind.BASE,
            "sequence": checkpoint.sequence,
            "hash": checkpoint.hash,
            "at": checkpoint.at,
            "key_id": checkpoint.key_id,
            "signature": checkpoint.signature,
        }
        async with self._ledger.writing(*audit) as transaction:
            await transaction.connection.execute(insert(_P).values(values))

    async def delete_through(self, writer: str, sequence: int, limit: int) -> int:
        oldest = select(_L.c.sequence).where(_L.c.writer == writer).order_by(_L.c.sequence).limit(limit).subquery()
        old = select(oldest.c.sequence).where(oldest.c.sequence <= sequence)
        async with self._ledger.writing() as transaction:
            gone = delete(_L).where(_L.c.writer == writer, _L.c.sequence.in_(old))
            return int((await transaction.connection.execute(gone)).rowcount)


def _blob(value: object) -> bytes:
    """What a column of bytes holds. SQLite keeps any type in any column; whoever tampers may leave another there, and
    that is for the chain to find."""
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
