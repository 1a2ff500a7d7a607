"""The tree of commands as a whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from citadel import __version__
from citadel.cli.app import app
from citadel.cli.completion import entry_ids
from tests.support.cli import CommandLine


def commands() -> Iterator[list[str]]:
    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield path
        for name, one in (inner or {}).items():
            yield from walk(one, [*path, name])

    yield from walk(typer.main.get_command(app), [])


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_says_what_it_is_for(citadel: CommandLine, path: list[str]) -> None:
    ended = citadel(*path, "--help")
    assert ended.code == 0
    about = ended.out.split("\n\n")[1].strip()
    assert about.endswith(".")


@pytest.mark.parametrize(
    "path",
    [
        ["bundle", "show"],
        ["config", "check"],
        ["entry", "list"],
        ["entry", "show"],
        ["ca", "list"],
        ["ca", "show"],
        ["svid", "list"],
        ["svid", "show"],
        ["status"],
        ["doctor"],
        ["config", "show"],
        ["audit", "list"],
        ["audit", "verify"],
        ["version"],
    ],
    ids=" ".join,
)
def test_every_reading_command_has_tables_json_and_yaml(citadel: CommandLine, path: list[str]) -> None:
    assert "<table|json|yaml>" in citadel(*path, "--help").out


@pytest.mark.parametrize(
    ("shell", "env"),
    [
        ("bash", {"COMP_WORDS": "citadel en", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "citadel en"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "citadel en", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_the_shell_completes_commands(shell: str, env: dict[str, str]) -> None:
    program = "from citadel.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | env | {"_CITADEL_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "entry" in done.stdout
    assert "envoy" in done.stdout
    assert "status" not in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_completion_script(citadel: CommandLine, shell: str) -> None:
    ended = citadel("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert f"_CITADEL_COMPLETE=complete_{shell}" in ended.out


def test_bash_takes_the_script_and_completes_with_it(citadel: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "citadel").write_text(f"#!{sys.executable}\nfrom citadel.cli import main\nmain()\n")
    (tmp_path / "citadel").chmod(0o755)
    script = citadel("completion", "bash").out + (
        "COMP_WORDS=(citadel status -o ''); COMP_CWORD=3; _citadel_completion citadel; echo ${COMPREPLY[*]}"
    )
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["table", "json", "yaml"], done.stderr


def test_ids_are_not_completed_where_nobody_can_be_asked(citadel: CommandLine) -> None:
    assert citadel("entry", "list").code == 3  # no configuration
    assert entry_ids("") == []


def every_help(citadel: CommandLine) -> Iterator[tuple[str, str]]:
    for path in [[], *commands(), *([noun] for noun in sorted({path[0] for path in commands() if len(path) > 1}))]:
        yield " ".join(path), citadel(*path, "-h").out


def test_no_help_is_cut_and_every_command_shows_an_example(citadel: CommandLine) -> None:
    for name, text in every_help(citadel):
        listed = text.partition("\nCommands:\n")[2]
        assert "..." not in listed, name
        if not listed:
            assert "\n  Example" in text, name
        assert "<path>" not in text, name
        assert "<str>" not in re.sub("(ID|SKID|SERIAL|VERSION|FILE|NAME|OLD|NEW|DIR|ISSUER) <str>", "", text), name


def test_the_version_is_told_in_one_line(citadel: CommandLine) -> None:
    assert citadel("--version").out == f"citadel {__version__}\n"


@pytest.mark.parametrize("args", [["--no-color", "version"], ["version", "--no-color"]], ids=" ".join)
def test_colours_can_be_switched_off_wherever_it_is_said(
    citadel: CommandLine, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert citadel(*args).code == 0
    assert os.environ["NO_COLOR"] == "1"


@pytest.mark.parametrize(
    "path", [["status"], ["entry", "list"], ["ca", "list"], ["audit", "verify"], ["bundle", "show"]]
)
def test_without_a_citadel_every_command_says_how_to_start_one(citadel: CommandLine, path: list[str]) -> None:
    ended = citadel(*path, CITADEL_ADMIN_SOCKET="/nonexistent/admin.sock")
    assert ended.code == 6
    assert ended.err == (
        "no Citadel listens at /nonexistent/admin.sock; start it with 'citadel up', or name its admin socket with "
        "--socket\n"
    )


def test_without_anything_the_usual_places_are_named(citadel: CommandLine) -> None:
    ended = citadel("status")
    assert ended.code == 3
    assert "/etc/citadel/citadel.toml" in ended.err
