"""The tree of commands. Each noun is a module; here they only get their names."""

from __future__ import annotations

from typing import Annotated

import typer

from citadel import __version__
from citadel.cli import (
    audit,
    backup,
    bundle,
    ca,
    completion,
    config,
    doctor,
    entry,
    envoy,
    init,
    keys,
    policy,
    root,
    status,
    svid,
    up,
    vault,
    version,
)
from citadel.cli.options import examples

app = typer.Typer(
    name="citadel",
    epilog=examples(
        "citadel init --trust-domain example.org",
        "citadel up",
        "citadel entry create --spiffe-id spiffe://example.org/web --selector unix:uid:1000",
        "citadel status",
        closing="Exit codes, and what is the same everywhere: docs/cli.md",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"citadel {__version__}")
        raise typer.Exit


@app.callback()
def citadel(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    _no_color: Annotated[  # taken out by cli.run, wherever it stands
        bool, typer.Option("--no-color", help="Print without colours, as NO_COLOR=1 in the environment does.")
    ] = False,
) -> None:
    """Certificate authority and identity service for service meshes."""


app.command("init", epilog=init.EXAMPLES)(init.init)
app.command("up", epilog=up.EXAMPLES)(up.up)
app.add_typer(entry.app, name="entry")
app.add_typer(ca.app, name="ca")
app.add_typer(root.app, name="root")
app.add_typer(keys.app, name="keys")
app.add_typer(bundle.app, name="bundle")
app.add_typer(svid.app, name="svid")
app.add_typer(envoy.app, name="envoy")
app.add_typer(policy.app, name="policy")
app.command("status", epilog=status.EXAMPLES)(status.status)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(vault.app, name="vault")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app, name="backup")
app.command("completion", epilog=completion.EXAMPLES)(completion.completion)
app.command("version", epilog=version.EXAMPLES)(version.version)
