"""`citadel config`: what is configured, where each value comes from, and whether it is right."""

from __future__ import annotations

from dataclasses import asdict

import typer

from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, examples, load_config
from citadel.cli.output import Format, FormatOption, field, show_list
from citadel.config import flat
from citadel.errors import BadFile

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog=examples("citadel config show", "citadel config show -o json"))
def show(config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show every setting and where its value comes from.

    Secrets are shown as asterisks.
    """
    loaded = load_config(config)
    origins = loaded.origins()
    documents = [
        {"setting": ".".join(where), "value": value, "origin": origins[where]}
        for where, value in flat(loaded.settings).items()
    ]
    columns = [field("setting", "setting"), field("value", "value", none="(empty)"), field("from", "origin")]
    show_list(documents, columns, output, empty="there are no settings")


@app.command(epilog=examples("citadel config check", "citadel config check --config /etc/citadel/citadel.toml -o json"))
def check(config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Check the configuration without starting anything.

    Every mistake is told, with its place; the exit code is 4 then.
    """
    if output is Format.TABLE:
        loaded = load_config(config)
        typer.echo(f"{loaded.source.path or 'environment'}: no mistakes")
        return
    mistakes: list[dict[str, object]] = []
    try:
        load_config(config)
    except BadFile as error:
        mistakes = [asdict(mistake) for mistake in error.mistakes]
    show_list(mistakes, [], output, empty="")
    if mistakes:
        raise typer.Exit(Exit.INVALID)
