"""`citadel entry`: who may be whom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2 as entry_api
from citadel.cli import documents
from citadel.cli import entry_options as options
from citadel.cli.client import connect
from citadel.cli.entry_apply import apply
from citadel.cli.entry_calls import all_entries, by_id, placed
from citadel.cli.entry_update import update
from citadel.cli.entry_view import COLUMNS, rows
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm
from citadel.cli.output import Format, FormatOption, show_list, show_one
from citadel.cli.run import say
from citadel.config import EntryDraft, parse_entries, read_entry_files
from citadel.errors import BadFile, InvalidInput

app = typer.Typer(help="Registration entries: who may be whom.", no_args_is_help=True, rich_markup_mode=None)

FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="YAML or JSON file with many entries; - is standard input.")
]
IdArgument = Annotated[str, typer.Argument(help="Id of the entry.", metavar="ID", show_default=False)]


@app.command()
def create(
    spiffe_id: options.SpiffeIdOption = None,
    parent: options.ParentOption = None,
    selector: options.SelectorOption = None,
    ttl: options.TtlOption = None,
    jwt_ttl: options.JwtTtlOption = None,
    dns: options.DnsOption = None,
    hint: options.HintOption = None,
    expires: options.ExpiresOption = None,
    label: options.LabelOption = None,
    federates_with: options.FederatesOption = None,
    entry_id: Annotated[str, typer.Option("--id", help="Id of the entry (default: a new one).")] = "",
    file: FileOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Create one entry from the options, or those in a file: all of them, or none."""
    if file is not None:
        others = (spiffe_id, parent, selector, ttl, jwt_ttl, dns, hint, expires, label, federates_with, entry_id)
        if any(others):
            raise InvalidInput("a file says everything itself", mend="leave the other options out, or --file")
        drafts = _from_file(file)
    else:
        drafts = [
            options.draft(
                spiffe_id=spiffe_id,
                parent=parent,
                selector=selector or [],
                ttl=ttl,
                jwt_ttl=jwt_ttl,
                dns=dns or [],
                hint=hint or "",
                expires=expires,
                label=label or [],
                federates_with=federates_with or [],
                entry_id=entry_id,
            )
        ]
    with connect(config, socket) as client, placed(drafts):
        request = admin.CreateEntriesRequest(entries=[documents.entry_message(draft) for draft in drafts])
        created = [documents.entry(one) for one in client.call(client.admin.CreateEntries, request).entries]
    show_list(created, COLUMNS, output, empty="the file has no entries")


@app.command("list")
def list_entries(
    spiffe_id: options.SpiffeIdOption = None,
    parent: options.ParentOption = None,
    selector: options.SelectorOption = None,
    apply_set: Annotated[str, typer.Option("--set", help="Only entries of this apply set.")] = "",
    hint: options.HintOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List entries, all or those that fit."""
    request = admin.ListEntriesRequest(
        spiffe_id=spiffe_id or "",
        parent_id=parent or "",
        selectors=selector or [],
        apply_set=apply_set,
        hint=hint or "",
    )
    with connect(config, socket) as client:
        found = [documents.entry(one) for one in all_entries(client, request)]
    show_list(found, COLUMNS, output, empty="there are no such entries")


@app.command()
def show(
    entry_id: IdArgument,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show one entry with all its fields."""
    with connect(config, socket) as client:
        show_one(documents.entry(by_id(client, entry_id)), rows(options.now()), output)


@app.command()
def delete(
    entry_ids: Annotated[list[str], typer.Argument(help="Ids of the entries.", metavar="ID...", show_default=False)],
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Delete entries. Nothing is renewed for them any more; what was issued stays valid until it expires."""
    with connect(config, socket) as client:
        doomed = [by_id(client, entry_id) for entry_id in entry_ids]
        names = ", ".join(sorted({documents.spiffe_id(one.entry.spiffe_id) for one in doomed}))
        confirm(f"Delete {len(doomed)} {'entry' if len(doomed) == 1 else 'entries'} ({names})?", yes=yes)
        request = entry_api.BatchDeleteEntryRequest(ids=entry_ids)
        results = client.call(client.entries.BatchDeleteEntry, request).results
        client.check_each((result.status for result in results), [f"deleting {entry_id}" for entry_id in entry_ids])
    say(f"deleted {len(entry_ids)}; citadel svid list --orphaned shows what is still held")


def _from_file(path: Path) -> list[EntryDraft]:
    """Raises BadFile."""
    if str(path) != "-":
        return read_entry_files([path])
    drafts, mistakes = parse_entries(sys.stdin.read(), "<stdin>")
    if mistakes:
        raise BadFile(mistakes)
    return drafts


app.command()(update)
app.command()(apply)
