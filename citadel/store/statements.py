"""Statements that run thousands of times a second: SQLAlchemy writes their SQL once, the driver gets plain tuples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection


class Batch:
    """One statement for many rows, each a tuple in the order of `names`, of values as the driver takes them.

    SQLAlchemy's own way builds a dictionary a row and looks at each value of it; for rows that are made here, of types
    that both drivers know (str, int, bytes), that costs more than the database does.
    """

    def __init__(self, statement: Any, names: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        assert compiled.positiontup == list(names), (compiled.positiontup, names)

    async def run(self, connection: AsyncConnection, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            await connection.exec_driver_sql(self._sql, rows)


def inserting(table: Table, names: Sequence[str], dialect: Dialect) -> Batch:
    return Batch(table.insert().inline(), names, dialect)


def replacing(table: Table, key: Sequence[str], values: Sequence[str], dialect: Dialect) -> Batch:
    """Inserts a row, or gives the one that has its `key` other `values`."""
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    new = insert(table).inline()
    new = new.on_conflict_do_update(index_elements=list(key), set_={name: new.excluded[name] for name in values})
    return Batch(new, [*key, *values], dialect)
