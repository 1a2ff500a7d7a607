"""`python -m tests.bench [NAME ...]`: runs the modules of this folder that have `rows()`, and prints one table."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table

import tests.bench
from tests.bench.row import Row


def main(names: list[str]) -> int:
    known = _modules()
    if unknown := [name for name in names if name not in known]:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    console = Console()
    rows: list[Row] = []
    for name in names or known:
        console.print(f"{name} ...", style="dim")
        rows += known[name]()
    console.print(_table(rows))
    return 0 if all(row.met is not False for row in rows) else 1


def _modules() -> dict[str, Callable[[], Iterable[Row]]]:
    found = {}
    for entry in pkgutil.iter_modules(tests.bench.__path__):
        if entry.name != "__main__":
            rows = getattr(importlib.import_module(f"tests.bench.{entry.name}"), "rows", None)
            if rows is not None:
                found[entry.name] = rows
    return found


def _table(rows: Iterable[Row]) -> Table:
    table = Table("what", "figure", "reference", "ratio", "goal")
    for row in rows:
        reference = f"{_number(row.reference)} {row.reference_name}" if row.reference is not None else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        verdict = {None: row.goal, True: f"{row.goal} met", False: f"{row.goal} [red]missed[/red]"}[row.met]
        table.add_row(row.name, f"{_number(row.figure)} {row.unit}", reference, ratio, verdict)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
