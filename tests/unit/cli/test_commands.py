"""The tree of commands as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer.main

from citadel.cli.app import app
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


def test_the_shell_completes_commands() -> None:
    env = os.environ | {"_CITADEL_COMPLETE": "complete_bash", "COMP_WORDS": "citadel en", "COMP_CWORD": "1"}
    program = "from citadel.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["entry", "envoy"]


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
