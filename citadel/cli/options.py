"""The options that many commands share, and what they stand for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from citadel import config
from citadel.cli.exits import Exit

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Configuration file (default: CITADEL_CONFIG, then the usual places).", metavar="FILE"
    ),
]
SocketOption = Annotated[
    Path | None,
    typer.Option(
        "--socket", help="Admin socket (default: CITADEL_ADMIN_SOCKET, then the configuration's).", metavar="PATH"
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def examples(*commands: str, closing: str = "") -> str:
    """The end of a command's help: commands to copy. `\\b` keeps the lines as they are (click)."""
    lines = ["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {command}" for command in commands)]
    return "\n".join([*lines, *(["", closing] if closing else [])])


def load_config(given: Path | None) -> config.Loaded:
    """The configuration that --config, CITADEL_CONFIG or the usual places name; or, if the environment has all that is
    required, the environment alone. Raises NotFound, BadFile and what else config.load raises."""
    alone = given is None and "CITADEL_CONFIG" not in os.environ and _environment_is_enough()
    path = None if alone else config.find_config(given, os.environ)
    return config.load_with_origins(path, os.environ)


def _environment_is_enough() -> bool:
    return "CITADEL_TRUST_DOMAIN" in os.environ and "CITADEL_DATA_DIR" in os.environ


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back. Ends the program if the answer is no, or nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"{question} Nobody is there to be asked: say --yes to do it; nothing was changed", err=True)
        raise typer.Exit(Exit.USAGE)
    if not typer.confirm(question, err=True):
        typer.echo("nothing was changed", err=True)
        raise typer.Exit(Exit.FAILED)
