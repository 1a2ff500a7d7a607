"""`citadel svid`: the log of all certificates that were issued."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import documents
from citadel.cli import entry_options as options
from citadel.cli.beginnings import SHOWN, the_only
from citadel.cli.ca import authorities, chosen
from citadel.cli.client import Client, connect
from citadel.cli.documents import skid_column, when
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Format, FormatOption, field, show_list, show_one
from citadel.errors import NotFound

app = typer.Typer(help="Certificates that were issued.", no_args_is_help=True, rich_markup_mode=None)
_PAGE = 500


@app.command(
    "list",
    epilog=examples(
        "citadel svid list --spiffe-id spiffe://example.org/web --live",
        "citadel svid list --expires-before 2h",
        "citadel svid list --orphaned -o json",
    ),
)
def list_issuances(
    spiffe_id: Annotated[str, typer.Option("--spiffe-id", help="Only of this identity.", metavar="ID")] = "",
    authority: Annotated[
        str, typer.Option("--authority", help="Only signed by this SKID, or the one that starts so.", metavar="SKID")
    ] = "",
    entry: Annotated[str, typer.Option("--entry", help="Only for this entry.", metavar="ID")] = "",
    expires_before: Annotated[
        str | None,
        typer.Option("--expires-before", help="Only what ends before: 2h from now, or then.", metavar="TIME"),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Only what has not expired.")] = False,
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="Only what is still valid and belongs to no present entry.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0, metavar="NUMBER")] = 100,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List issued certificates, newest first."""
    now = datetime.now(UTC)
    given = options.Given()
    before = given.one("--expires-before", expires_before, lambda text: options.expiry(text, now))
    given.check()
    request = admin.ListIssuancesRequest(
        spiffe_id=spiffe_id,
        entry_id=entry,
        live=live,
        orphaned=orphaned,
        expires_before=int(before.timestamp()) if before else 0,
        page_size=min(limit, _PAGE) or _PAGE,
    )
    with connect(config, socket) as client:
        if authority:
            request.authority = chosen(authorities(client), authority).skid
        found = [documents.issuance(one) for one in islice(_all(client, request), limit or None)]
    columns = [
        field("serial", "serial"),
        field("spiffe id", "spiffe_id"),
        skid_column("authority", "authority"),
        when("issued", "at", now),
        when("expires", "not_after", now),
        field("outcome", "outcome"),
    ]
    show_list(found, columns, output, empty="there are no such certificates")


@app.command(epilog=examples("citadel svid show 6bb6cbd8e887e291df0eefd4ed4408b6"))
def show(
    serial: Annotated[
        str, typer.Argument(help="Serial number in hex, or its beginning.", metavar="SERIAL", show_default=False)
    ],
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show the record of one certificate."""
    now = datetime.now(UTC)
    with connect(config, socket) as client:
        one = _by_beginning(client, serial)
    rows = [
        field("serial", "serial"),
        field("spiffe id", "spiffe_id"),
        field("dns names", "dns_names"),
        field("entry", "entry_id"),
        skid_column("authority", "authority"),
        when("valid from", "not_before", now),
        when("valid until", "not_after", now),
        field("outcome", "outcome"),
        field("detail", "detail"),
        field("fingerprint", "fingerprint"),
        field("key fingerprint", "key_fingerprint"),
        field("requester", "requester"),
        when("asked", "at", now),
    ]
    show_one(documents.issuance(one), rows, output)


def _by_beginning(client: Client, serial: str) -> admin.Issuance:
    try:
        return client.call(client.admin.GetIssuance, admin.GetIssuanceRequest(serial=serial))
    except NotFound as error:
        request = admin.ListIssuancesRequest(serial_prefix=serial, page_size=SHOWN + 1)
        found = client.call(client.admin.ListIssuances, request).issuances
        names = [f"{one.serial} ({one.spiffe_id})" for one in found]
        return the_only(found, names, "certificates have a serial", serial, error)


def _all(client: Client, request: admin.ListIssuancesRequest) -> Iterator[admin.Issuance]:
    while True:
        answer = client.call(client.admin.ListIssuances, request)
        yield from answer.issuances
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token
