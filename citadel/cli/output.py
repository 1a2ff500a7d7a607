"""How answers are shown: a table for people, JSON or YAML for programs; the same rows under all three."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

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
    """A column of a table: its title, and the text of its cell for one document.

    `short`: what stands there on a terminal that is too narrow for the whole; None: the same. An id that other commands
    take is never shortened: it is there to be copied.
    """

    title: str
    cell: Callable[[Document], str]
    short: Callable[[Document], str] | None = None


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
            print_table(columns, documents)
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


def print_table(columns: Sequence[Column], documents: Sequence[Document]) -> None:
    """Plain columns, two spaces apart, never cut or folded: what is printed can be copied, and read by scripts.

    On a terminal the titles are bold (unless NO_COLOR is set), and shorter cells are taken where the rows do not fit.
    """
    terminal = sys.stdout.isatty()
    lines = _lines(columns, documents)
    if terminal and max(map(len, lines)) > shutil.get_terminal_size().columns:
        narrow = [Column(column.title, column.short or column.cell) for column in columns]
        lines = _lines(narrow, documents)
    if terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    for line in lines:
        print(line)


def _lines(columns: Sequence[Column], documents: Sequence[Document]) -> list[str]:
    titles = [column.title.upper() for column in columns]
    rows = [titles, *([column.cell(one).replace("\n", " ") for column in columns] for one in documents)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _print_data(data: Any, form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps(data, indent=2))  # ASCII: no control characters reach a terminal
    else:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")
