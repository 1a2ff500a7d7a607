"""`citadel config`: what is configured, where each value comes from, and whether it is right."""

from __future__ import annotations

import typer

from citadel.cli.options import ConfigOption, load_config
from citadel.cli.output import Format, FormatOption, field, show_list
from citadel.config import flat

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show every setting, its value, and where that comes from. Secrets are shown as asterisks."""
    loaded = load_config(config)
    origins = loaded.origins()
    documents = [
        {"setting": ".".join(where), "value": value, "origin": origins[where]}
        for where, value in flat(loaded.settings).items()
    ]
    columns = [field("setting", "setting"), field("value", "value", none="(empty)"), field("from", "origin")]
    show_list(documents, columns, output, empty="there are no settings")


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check the configuration and say everything that is wrong with it, without starting anything."""
    loaded = load_config(config)
    typer.echo(f"{loaded.source.path or 'environment'}: no mistakes")
