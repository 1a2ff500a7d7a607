"""The tree of commands. Each noun is a module; here they only get their names."""

from __future__ import annotations

import typer

from citadel.cli import config, doctor, init, up, version

app = typer.Typer(
    name="citadel",
    help="Certificate authority and identity service for service meshes.",
    epilog="Exit codes and examples: docs/cli.md",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.add_typer(config.app, name="config")
app.command("up")(up.up)
app.command("doctor")(doctor.doctor)
app.command("version")(version.version)
