"""How answers are shown: a table for people, JSON or YAML for programs; the same rows under all three."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TextIO

import typer
import yaml

from citadel.cli.run import printable

Document = Mapping[str, Any]  # one thing as JSON: stable snake_case keys, times as RFC 3339, never a secret


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to show it.", show_choices=True)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, and the text of its cell for one document."""

    title: str
    cell: Callable[[Document], str]


def field(title: str, key: str, *, none: str = "-") -> Column:
    """A column that shows the document's value of `key` as it is."""
    return Column(title, lambda document: as_cell(document.get(key), none=none))


def as_cell(value: Any, *, none: str = "-") -> str:
    """A JSON value in a table's cell."""
    match value:
        case None | "" | [] | ():
            return none
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(as_cell(item) for item in value)
        case _:
            return printable(str(value))


def show_list(documents: Sequence[Document], columns: Sequence[Column], form: Format, *, empty: str) -> None:
    """Print many things. JSON and YAML: a list of the documents. An empty table is the sentence `empty`, on stderr."""
    match form:
        case Format.TABLE if not documents:
            typer.echo(empty, err=True)
        case Format.TABLE:
            print_table([c.title for c in columns], [[c.cell(d) for c in columns] for d in documents])
        case _:
            _print_data([dict(document) for document in documents], form)


def show_one(document: Document, rows: Sequence[Column], form: Format) -> None:
    """Print one thing. As a table: a line for each of `rows`, title and value."""
    if form is not Format.TABLE:
        _print_data(dict(document), form)
        return
    width = max((len(row.title) for row in rows), default=0)
    for row in rows:
        first, *more = row.cell(document).split("\n")
        print(f"{row.title:<{width}}  {first}".rstrip())
        for line in more:
            print(f"{'':<{width}}  {line}".rstrip())


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, file: TextIO | None = None) -> None:
    """On a terminal a rich table; otherwise plain columns, two spaces apart, nothing cut: stable for scripts."""
    out = file or sys.stdout
    if out.isatty():
        _rich_table(titles, rows)
        return
    clean = [[cell.replace("\n", " ") for cell in row] for row in [[t.upper() for t in titles], *rows]]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def _rich_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # here: rich takes 60 ms to import, which scripts need not pay
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in what users wrote are no markup
    Console().print(table)


def _print_data(data: Any, form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps(data, indent=2))  # ASCII: no control characters reach a terminal
    else:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
