"""`citadel audit`: who did what, and whether the record of it is intact."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.audit import Checkpoint
from citadel.cli.client import Client, connect
from citadel.cli.documents import Document, time, when
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Column, Format, FormatOption, as_cell, field, show_list
from citadel.errors import InvalidInput, NotFound, PermissionDenied

app = typer.Typer(help="The audit log: who did what.", no_args_is_help=True, rich_markup_mode=None)
_PAGE = 500
_MOST_CHECKPOINTS = 10_000
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


@app.command(
    epilog=examples(
        "citadel audit verify",
        "citadel audit verify --checkpoint /var/log/citadel.log --key 0a1b...",
        "journalctl -u citadel | citadel audit verify --checkpoint -",
    )
)
def verify(
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            help="A checkpoint that was kept elsewhere: its text, or a file (`-`: standard input) such as a log, with "
            "any number of them. May be repeated.",
            metavar="TEXT|FILE",
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="Only checkpoints that this key signed count (see: audit key).", metavar="ID"),
    ] = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Verify every chain to its last record.

    From its first, or from where it was pruned.

    Ends with 1 if a record is missing, was altered, or is not the one that a checkpoint was signed for. What was cut
    off together with its checkpoints shows only against a --checkpoint that was kept elsewhere.
    """
    kept = [str(one) for one in _newest_of_each(one for given in checkpoint or () for one in _checkpoints(given))]
    request = admin.VerifyAuditRequest(checkpoints=kept, key_ids=[one.lower() for one in key or ()])
    now = datetime.now(UTC)
    with connect(config, socket) as client:
        answer = client.call(client.admin.VerifyAudit, request, patience=_VERIFY_PATIENCE)
    chains = [_chain(chain) for chain in answer.chains]
    columns = [
        field("writer", "writer"),
        field("pruned to", "pruned_through"),
        field("from", "first"),
        field("to", "last"),
        field("checkpoints", "checkpoints"),
        field("signed to", "signed_through"),
        when("signed", "signed_at", now),
        field("intact", "intact"),
    ]
    show_list(chains, columns, output, empty="there are no records")
    faults = [f"{chain.writer}: {fault}" for chain in answer.chains for fault in chain.faults]
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(Exit.FAILED)


@app.command("key", epilog=examples("citadel audit key -o json"))
def show_key(config: ConfigOption = None, socket: SocketOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show the public keys of audit checkpoints. The newest, which signs, is last.

    Keep the id outside this machine: `audit verify --key ID` then trusts no other one.
    """
    with connect(config, socket) as client:
        answer = client.call(client.admin.ListAuditKeys, admin.ListAuditKeysRequest())
    keys = [{"id": one.id, "pem": one.pem} for one in answer.keys]
    show_list(keys, [field("id", "id")], output, empty="there is no audit key that can be opened")
    if output is Format.TABLE:
        for one in keys:
            typer.echo(one["pem"], nl=False)


@app.command("checkpoint", epilog=examples("citadel audit checkpoint >> /mnt/elsewhere/checkpoints"))
def make_checkpoint(config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Sign now how far the audit log goes.

    That is this server's chain; the newest checkpoint of every chain is printed.

    Kept elsewhere, they show later that nothing was cut off: audit verify --checkpoint.
    """
    with connect(config, socket) as client:
        answer = client.call(client.admin.CreateAuditCheckpoint, admin.CreateAuditCheckpointRequest())
    for one in answer.checkpoints:
        typer.echo(one)


def _chain(chain: admin.VerifyAuditResponse.Chain) -> Document:
    return {
        "writer": chain.writer,
        "pruned_through": chain.pruned,
        "first": chain.first,
        "last": chain.last,
        "checkpoints": chain.checkpoints,
        "signed_through": chain.signed,
        "signed_at": time(chain.signed_at),
        "intact": not chain.faults,
        "faults": list(chain.faults),
    }


def _checkpoints(given: str) -> list[Checkpoint]:
    """The checkpoints that an option names. Raises InvalidInput, NotFound, PermissionDenied."""
    if given.startswith("citadel-audit-"):
        return [Checkpoint.parse(given)]
    try:
        text = sys.stdin.read() if given == "-" else Path(given).read_text(errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {given}", mend="--checkpoint takes a file, or the text that begins with citadel-audit-"
        ) from None
    except OSError as error:
        raise PermissionDenied(f"{given} cannot be read: {error.strerror}") from error
    found = list(Checkpoint.find_all(text))
    if not found:
        raise InvalidInput(f"{given} has no audit checkpoint in it", mend="see: citadel audit checkpoint")
    return found


def _newest_of_each(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """At most so many of each chain as one request takes, the newest."""
    chains: dict[str, set[Checkpoint]] = {}
    for one in checkpoints:
        chains.setdefault(one.writer, set()).add(one)
    return [
        one
        for chain in chains.values()
        for one in sorted(chain, key=lambda one: (one.sequence, one.at), reverse=True)[:_MOST_CHECKPOINTS]
    ]


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
