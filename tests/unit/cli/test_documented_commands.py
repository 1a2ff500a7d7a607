"""Every `citadel` command in the README, the docs and the help texts is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import CommandLine
from tests.unit.cli.test_commands import commands as every_command
from tests.unit.cli.test_commands import every_help

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_STARTS = ("up", "init", "demo")  # these would do something
_COMMAND = re.compile(r"\$\([^)]*\)")
_SHELL = re.compile(r"[|&<>;]|2>|\(|\)")


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `citadel` in lines of shell."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(_COMMAND.sub("0", line.strip()), comments=True)
        for start in (place for place, word in enumerate(words) if word == "citadel"):
            arguments = words[start + 1 :]
            end = next((place for place, word in enumerate(arguments) if _SHELL.match(word)), len(arguments))
            yield arguments[:end]


def in_page(page: Path) -> Iterator[list[str]]:
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        yield from commands(block)


def taken(citadel: CommandLine, arguments: list[str], folder: Path) -> bool:
    if arguments[0] in _STARTS:
        return True
    arguments = [one for one in arguments if one != "--watch"]  # once is enough: nobody presses Ctrl-C
    for option in {"--out", "--junit"}.intersection(arguments):
        arguments[arguments.index(option) + 1] = str(folder / "out")
    if "--wait" in arguments[:-1] and arguments[0] == "status":
        arguments[arguments.index("--wait") + 1] = "100ms"  # nobody will come
    env = {"CITADEL_ADMIN_SOCKET": "/nonexistent/s", "CITADEL_TRUST_DOMAIN": "example.org", "CITADEL_DATA_DIR": "/d"}
    ended = citadel(*arguments, **env)
    return ended.code != 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_the_documentation_exist(citadel: CommandLine, page: Path, tmp_path: Path) -> None:
    assert [one for one in in_page(page) if not taken(citadel, one, tmp_path)] == []


def rows_of_the_table() -> Iterator[list[str]]:
    """What each row of docs/cli.md's table of commands is about: `citadel ca list`, `ca show SKID` and the like."""
    table = (ROOT / "docs" / "cli.md").read_text().split("| command | does |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        yield re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[1])


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_has_its_row(path: list[str]) -> None:
    def named(words: list[str], row: list[str]) -> bool:
        noun = row[0].removeprefix("citadel ").split()[0]  # the rest of a row may leave it out
        given = [one.removeprefix("citadel ").split() for one in row]
        return any(words == one[: len(words)] or words == [noun, *one][: len(words)] for one in given)

    assert any(named(path, row) for row in rows_of_the_table())


def test_the_pages_with_commands_are_found() -> None:
    assert {page.name for page in PAGES if list(in_page(page))} >= {"README.md", "cli.md", "entries.md"}


def test_the_examples_of_every_help_exist(citadel: CommandLine, tmp_path: Path) -> None:
    wrong = []
    for name, text in every_help(citadel):
        example = text.partition("\n  Example")[2]
        wrong += [(name, one) for one in commands(example) if one and not taken(citadel, one, tmp_path)]
    assert wrong == []
