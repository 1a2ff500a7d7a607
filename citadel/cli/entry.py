"""`citadel entry`: who may be whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin_pb
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2 as entry_api
from citadel.cli import documents
from citadel.cli import entry_options as options
from citadel.cli.client import Client, connect
from citadel.cli.completion import entry_ids
from citadel.cli.entry_apply import apply
from citadel.cli.entry_calls import all_entries, by_beginning, by_id, placed, read_drafts
from citadel.cli.entry_update import update
from citadel.cli.entry_view import COLUMNS, rows
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Format, FormatOption, show_list, show_one
from citadel.cli.run import say
from citadel.config import EntryDraft
from citadel.errors import InvalidInput

app = typer.Typer(help="Registration entries: who may be whom.", no_args_is_help=True, rich_markup_mode=None)

FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="YAML or JSON file with many entries; - is standard input.", metavar="FILE"),
]


@app.command(
    epilog=examples(
        "citadel entry create --spiffe-id spiffe://example.org/web --selector unix:uid:1000",
        "citadel entry create --spiffe-id spiffe://example.org/web --selector unix:uid:1000 \\\n"
        "      --selector unix:path:/usr/bin/envoy --dns web.internal --ttl 30m",
        "citadel entry create -f entries.yaml",
        closing="The fields of a file, and all selectors: docs/entries.md",
    )
)
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
    admin: options.AdminOption = None,
    downstream: options.DownstreamOption = None,
    store_svid: options.StoreSvidOption = None,
    entry_id: Annotated[str, typer.Option("--id", help="Id of the entry (default: a new one).", metavar="ID")] = "",
    file: FileOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Create an entry, or all entries of a file.

    With a file: all of them in one transaction, or none.
    """
    if file is not None:
        others = (spiffe_id, parent, selector, ttl, jwt_ttl, dns, hint, expires, label, federates_with,
                  entry_id or None, admin, downstream, store_svid)  # fmt: skip
        if any(other is not None for other in others):
            raise InvalidInput("--file says everything itself", mend="leave the other options out, or --file")
        drafts = read_drafts([file], config, socket, lambda client, some: _create(client, some, dry_run=True))
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
                admin=bool(admin),
                downstream=bool(downstream),
                store_svid=bool(store_svid),
                entry_id=entry_id,
            )
        ]
    with connect(config, socket) as client, placed(drafts):
        created = [documents.entry(one) for one in _create(client, drafts)]
    show_list(created, COLUMNS, output, empty="the file has no entries")


def _create(client: Client, drafts: Sequence[EntryDraft], *, dry_run: bool = False) -> Sequence[admin_pb.EntryDetails]:
    messages = [documents.entry_message(draft) for draft in drafts]
    request = admin_pb.CreateEntriesRequest(entries=messages, dry_run=dry_run)
    return client.call(client.admin.CreateEntries, request).entries


@app.command(
    "list",
    epilog=examples(
        "citadel entry list --spiffe-id spiffe://example.org/web",
        "citadel entry list --set shop -o yaml",
    ),
)
def list_entries(
    spiffe_id: Annotated[
        str | None, typer.Option("--spiffe-id", help="Only entries of this identity.", metavar="ID")
    ] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="Only entries of this node.", metavar="ID")] = None,
    selector: Annotated[
        list[str] | None,
        typer.Option(
            "--selector",
            help="Only entries that have this one, and maybe others.",
            metavar="TYPE:VALUE",
        ),
    ] = None,
    apply_set: Annotated[str, typer.Option("--set", help="Only entries of this apply set.", metavar="NAME")] = "",
    hint: Annotated[str | None, typer.Option("--hint", help="Only entries with this hint.", metavar="TEXT")] = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List entries, all or those that fit."""
    request = admin_pb.ListEntriesRequest(
        spiffe_id=spiffe_id or "",
        parent_id=parent or "",
        selectors=selector or [],
        apply_set=apply_set,
        hint=hint or "",
    )
    with connect(config, socket) as client:
        found = [documents.entry(one) for one in all_entries(client, request)]
    show_list(found, COLUMNS, output, empty="there are no such entries")


@app.command(epilog=examples("citadel entry show 5e946ae5-e26f-4325-910e-31fff3b8b201"))
def show(
    entry_id: Annotated[
        str,
        typer.Argument(help="Id, or its beginning.", metavar="ID", show_default=False, autocompletion=entry_ids),
    ],
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show one entry with all its fields."""
    with connect(config, socket) as client:
        show_one(documents.entry(by_beginning(client, entry_id)), rows(options.now()), output)


@app.command(epilog=examples("citadel entry delete 5e946ae5-e26f-4325-910e-31fff3b8b201 --yes"))
def delete(
    entry_ids: Annotated[
        list[str],
        typer.Argument(help="Ids of the entries.", metavar="ID", show_default=False, autocompletion=entry_ids),
    ],
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Delete entries by their ids.

    Nothing is renewed for them any more; what was issued stays valid until it expires.
    """
    with connect(config, socket) as client:
        doomed = [by_id(client, entry_id) for entry_id in entry_ids]
        names = ", ".join(sorted({documents.spiffe_id(one.entry.spiffe_id) for one in doomed}))
        confirm(f"Delete {len(doomed)} {'entry' if len(doomed) == 1 else 'entries'} ({names})?", yes=yes)
        request = entry_api.BatchDeleteEntryRequest(ids=entry_ids)
        results = client.call(client.entries.BatchDeleteEntry, request).results
        client.check_each((result.status for result in results), [f"deleting {entry_id}" for entry_id in entry_ids])
    say(f"deleted {len(entry_ids)}; citadel svid list --orphaned shows what is still held")


app.command(
    epilog=examples(
        "citadel entry update 5e946ae5-e26f-4325-910e-31fff3b8b201 --ttl 30m",
        'citadel entry update 5e946ae5-e26f-4325-910e-31fff3b8b201 --dns "" --expires ""',
    )
)(update)
app.command(
    epilog=examples(
        "citadel entry apply entries/ --set shop --dry-run",
        "citadel entry apply entries/ --set shop --prune --yes",
        "kubectl get configmap shop -o jsonpath='{.data.entries}' | citadel entry apply -",
        closing="The fields of a file, and all selectors: docs/entries.md",
    )
)(apply)
