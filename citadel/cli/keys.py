"""`citadel keys`: the key-encryption key, under which private keys lie in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import keys_pb2 as pb
from citadel.cli.client import connect
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Format, FormatOption, field, show_one

app = typer.Typer(help="The key-encryption key.", no_args_is_help=True, rich_markup_mode=None)
_PATIENCE = 300.0  # seconds: a transaction for each key


@app.command(epilog=examples("citadel keys rekey", "citadel keys rekey --stage --key /etc/citadel/new-kek"))
def rekey(
    key: Annotated[
        Path | None,
        typer.Option("--key", help="File with the new key: 32 bytes in base64 (default: make one).", metavar="FILE"),
    ] = None,
    stage: Annotated[
        bool, typer.Option("--stage", help="Only hold the new key beside the current one; nothing is sealed under it.")
    ] = False,
    all_staged: Annotated[
        bool, typer.Option("--all-staged", help="Every server that uses this database holds the new key.")
    ] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Replace the key-encryption key.

    Every private key is sealed anew and read back, then the new key takes the old one's place.

    May be cut off at any moment: the next start, or the same command again, goes on with it. The old key is kept until
    `citadel keys forget`.
    """
    path = str(key.expanduser().absolute()) if key is not None else ""
    request = pb.RekeyRequest(key_file=path, stage=stage, all_staged=all_staged)
    with connect(config, socket) as client:
        done = client.call(client.keys.Rekey, request, patience=_PATIENCE)
    state = "staged" if done.staged_only else "in force" if done.in_place else "in use, to be put in place by you"
    document = {"kek_id": done.kek_id, "state": state, "keys": done.keys, "resealed": done.resealed}
    rows = [field("key", "kek_id"), field("state", "state"), field("private keys", "keys")]
    show_one(document, [*rows, field("sealed anew", "resealed")], output)
    if output is Format.TABLE and done.in_place:
        typer.echo("Copy the new key elsewhere, apart from backups; then run: citadel keys forget", err=True)


@app.command(epilog=examples("citadel keys forget"))
def forget(yes: YesOption = False, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Remove the key whose place the current one took.

    Backups that were made before it need the old key: keep a copy as long as them.
    """
    with connect(config, socket) as client:
        confirm("The old key-encryption key is removed; backups from before need it. Go on?", yes=yes)
        gone = client.call(client.keys.ForgetKey, pb.ForgetKeyRequest(), patience=_PATIENCE)
    typer.echo(f"removed {gone.kek_id}")
