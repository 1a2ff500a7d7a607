"""The tree of commands. Each noun is a module; here they only get their names."""

from __future__ import annotations

import typer

from citadel.cli import audit, bundle, ca, config, doctor, entry, envoy, init, status, svid, up, version

app = typer.Typer(
    name="citadel",
    help="Certificate authority and identity service for service meshes.",
    epilog="Exit codes and examples: docs/cli.md",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.command("up")(up.up)
app.add_typer(entry.app, name="entry")
app.add_typer(ca.app, name="ca")
app.add_typer(bundle.app, name="bundle")
app.add_typer(svid.app, name="svid")
app.add_typer(envoy.app, name="envoy")
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.command("version")(version.version)
