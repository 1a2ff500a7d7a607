from __future__ import annotations

import contextlib
import io
import json

import pytest
import yaml

from citadel.cli.output import Column, Format, field, show_list, show_one

ROWS = [
    {"name": "a", "tags": ["x", "y"], "on": True, "note": None},
    {"name": "bbb", "tags": [], "on": False, "note": "[red]\x1b[31m"},
]
COLUMNS = [field("name", "name"), field("tags", "tags"), field("on", "on"), field("note", "note", none="none")]


def test_off_a_terminal_columns_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ROWS, COLUMNS, Format.TABLE, empty="nothing")
    assert capsys.readouterr().out == (
        "NAME  TAGS  ON   NOTE\n"
        "a     x, y  yes  none\n"
        "bbb   -     no   [red]\\x1b[31m\n"
    )  # fmt: skip


def test_json_and_yaml_hold_the_documents_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ROWS, COLUMNS, Format.JSON, empty="nothing")
    assert json.loads(capsys.readouterr().out) == ROWS
    show_list(ROWS, COLUMNS, Format.YAML, empty="nothing")
    assert yaml.safe_load(capsys.readouterr().out) == ROWS


@pytest.mark.parametrize("form", list(Format))
def test_nothing_that_a_terminal_obeys_is_printed(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = {"text": "\x1b]0;title\x07\x9b31m\r"}
    show_list([hostile], [field("text", "text")], form, empty="nothing")
    show_one(hostile, [field("text", "text")], form)
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_an_empty_table_is_a_sentence_for_people_and_an_empty_list_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_list([], COLUMNS, Format.TABLE, empty="there is nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "there is nothing\n")
    show_list([], COLUMNS, Format.JSON, empty="there is nothing")
    assert json.loads(capsys.readouterr().out) == []


def test_one_thing_is_a_line_for_each_of_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"name": "a", "lines": "1\n2"}, [field("name", "name"), field("the lines", "lines")], Format.TABLE)
    assert capsys.readouterr().out == "name       a\nthe lines  1\n           2\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("width", "env", "shown"),
    [
        (80, {}, "\x1b[1mNAME  WHEN\x1b[0m\na     2026-11-24 00:00:00Z\n"),
        (20, {}, "\x1b[1mNAME  WHEN\x1b[0m\na     in 1h\n"),
        (20, {"NO_COLOR": "1"}, "NAME  WHEN\na     in 1h\n"),
        (20, {"TERM": "dumb"}, "NAME  WHEN\na     in 1h\n"),
    ],
)
def test_a_narrow_terminal_gets_shorter_cells_and_nothing_is_folded(
    monkeypatch: pytest.MonkeyPatch, width: int, env: dict[str, str], shown: str
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (env | {"COLUMNS": str(width)}).items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    columns = [field("name", "name"), Column("when", lambda _: "2026-11-24 00:00:00Z", lambda _: "in 1h")]
    with contextlib.redirect_stdout(out):
        show_list([{"name": "a"}], columns, Format.TABLE, empty="")
    assert out.getvalue() == shown
