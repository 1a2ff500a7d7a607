"""`citadel audit`: who did what, and whether the record of it is intact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.client import Client, connect
from citadel.cli.documents import Document, when
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Column, Format, FormatOption, as_cell, field, show_list

app = typer.Typer(help="The audit log: who did what.", no_args_is_help=True, rich_markup_mode=None)
_PAGE = 500
_VERIFY_PATIENCE = 600.0  # seconds: it walks the whole log


@app.command("list", epilog=examples("citadel audit list --limit 20", "citadel audit list --after 100 -o json"))
def list_records(
    writer: Annotated[str, typer.Option("--writer", help="Only the chain of this server.", metavar="NAME")] = "",
    after: Annotated[
        int | None,
        typer.Option(
            "--after", help="From behind this sequence number (default: the newest).", min=0, metavar="NUMBER"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many of each chain.", min=1, metavar="NUMBER")] = 50,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List audit records, oldest first.

    The newest of each chain, or those behind --after.
    """
    now = datetime.now(UTC)
    with connect(config, socket) as client:
        found = [
            _document(record)
            for name in ([writer] if writer else _writers(client))
            for record in _records(client, name, _newest(client, name, limit) if after is None else after, limit)
        ]
    found.sort(key=lambda document: (document["at"], document["writer"], document["sequence"]))
    columns = [
        field("writer", "writer"),
        field("sequence", "sequence"),
        when("when", "at", now),
        field("actor", "actor"),
        field("action", "action"),
        field("subject", "subject"),
        Column("detail", lambda d: as_cell([f"{key}={value}" for key, value in d["detail"].items()])),
        field("reason", "reason", none=""),
    ]
    show_list(found, columns, output, empty="there are no records")


@app.command(epilog=examples("citadel audit verify"))
def verify(config: ConfigOption = None, socket: SocketOption = None, output: FormatOption = Format.TABLE) -> None:
    """Verify every chain from its first link to its last.

    Ends with 1 if a record is missing or was altered.
    """
    with connect(config, socket) as client:
        answer = client.call(client.admin.VerifyAudit, admin.VerifyAuditRequest(), patience=_VERIFY_PATIENCE)
    chains = [{"writer": c.writer, "links": c.links, "intact": not c.fault, "fault": c.fault} for c in answer.chains]
    columns = [field("writer", "writer"), field("links", "links"), field("intact", "intact"), field("fault", "fault")]
    show_list(chains, columns, output, empty="there are no records")
    if not all(chain["intact"] for chain in chains):
        raise typer.Exit(Exit.FAILED)


def _document(record: admin.AuditRecord) -> Document:
    body = json.loads(record.body)
    return {
        "writer": record.writer,
        "sequence": record.sequence,
        "hash": record.hash.hex(),
        "at": body["at"],
        "actor": body["actor"],
        "action": body["action"],
        "subject": body["subject"],
        "detail": body["detail"],
        "reason": body["reason"],
    }


def _writers(client: Client) -> list[str]:
    answer = client.call(client.admin.ListAudit, admin.ListAuditRequest(page_size=1))
    return sorted({record.writer for record in answer.records})


def _records(client: Client, writer: str, after: int, limit: int) -> Iterator[admin.AuditRecord]:
    while limit > 0:
        request = admin.ListAuditRequest(writer=writer, after=after, page_size=min(limit, _PAGE))
        records = client.call(client.admin.ListAudit, request).records
        if not records:
            return
        yield from records
        limit -= len(records)
        after = records[-1].sequence


def _newest(client: Client, writer: str, count: int) -> int:
    """Behind which sequence number the newest `count` records are: the end is found by doubling, then by halving."""

    def any_after(sequence: int) -> bool:
        request = admin.ListAuditRequest(writer=writer, after=sequence, page_size=1)
        return bool(client.call(client.admin.ListAudit, request).records)

    low, high = 0, 1
    while any_after(high):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if any_after(middle) else (low, middle)
    return max(low - count, 0)
