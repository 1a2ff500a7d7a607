"""`citadel entry apply`: makes the entries of an apply set what files say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import documents
from citadel.cli.client import Client, connect
from citadel.cli.documents import Document
from citadel.cli.entry_calls import placed, read_drafts
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm
from citadel.cli.output import Format, FormatOption, as_cell, show_one
from citadel.cli.run import printable
from citadel.config import EntryDraft
from citadel.errors import FailedPrecondition

_UNCOMPARED = ("id", "revision", "created_at", "apply_set")


def apply(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="YAML or JSON files, folders of them, or - for standard input.", metavar="PATH", show_default=False
        ),
    ],
    apply_set: Annotated[str, typer.Option("--set", help="Name of the apply set.", metavar="NAME")] = "default",
    prune: Annotated[bool, typer.Option("--prune", help="Delete entries of the set that are in no file.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="With --prune: files without any entry delete the whole set.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make the entries of an apply set what files say.

    What is missing is created, what differs is changed, and with --prune what is in no file any more is deleted: all of
    it in one transaction, or nothing. Entries made by hand, or of another set, are never touched.
    """

    def request_for(some: Sequence[EntryDraft]) -> admin.ApplyEntriesRequest:
        messages = [documents.entry_message(draft) for draft in some]
        return admin.ApplyEntriesRequest(apply_set=apply_set, entries=messages, prune=prune, dry_run=True)

    def ask(client: Client, some: Sequence[EntryDraft]) -> None:
        client.call(client.admin.ApplyEntries, request_for(some))

    drafts = read_drafts(paths, config, socket, ask)
    if prune and not drafts and not allow_empty:
        raise FailedPrecondition(
            f"{', '.join(map(str, paths))} holds no entry: with --prune all of the set {apply_set} would be deleted",
            mend="if that is meant, add --allow-empty",
        )
    request = request_for(drafts)
    with connect(config, socket) as client, placed(drafts):
        if prune and not dry_run:
            doomed = client.call(client.admin.ApplyEntries, request).deleted
            if doomed:
                names = ", ".join(sorted({documents.spiffe_id(one.entry.spiffe_id) for one in doomed}))
                confirm(f"Delete {len(doomed)} of the set {apply_set} ({names})?", yes=yes)
        request.dry_run = dry_run
        answer = client.call(client.admin.ApplyEntries, request)
    document = _document(answer, apply_set, dry_run=dry_run)
    if output is Format.TABLE:
        for line in _lines(document):
            print(printable(line))
    else:
        show_one(document, [], output)


def _document(answer: admin.ApplyEntriesResponse, apply_set: str, *, dry_run: bool) -> Document:
    return {
        "apply_set": apply_set,
        "dry_run": dry_run,
        "created": [documents.entry(one) for one in answer.created],
        "updated": [
            {"before": documents.entry(one.before), "after": documents.entry(one.after)} for one in answer.updated
        ],
        "deleted": [documents.entry(one) for one in answer.deleted],
        "unchanged": answer.unchanged,
    }


def _lines(document: Document) -> Iterator[str]:
    """The change as a diff: a line for each entry, and below it what differs."""
    for entry in document["created"]:
        yield f"+ {entry['spiffe_id']}  {as_cell(entry['selectors'])}"
    for pair in document["updated"]:
        before, after = pair["before"], pair["after"]
        yield f"~ {after['spiffe_id']}  {as_cell(after['selectors'])}"
        for key in after:
            if key not in _UNCOMPARED and before[key] != after[key]:
                yield f"    {key}: {as_cell(before[key])} -> {as_cell(after[key])}"
    for entry in document["deleted"]:
        yield f"- {entry['spiffe_id']}  {as_cell(entry['selectors'])}"
    counts = ", ".join(f"{len(document[what])} {what}" for what in ("created", "updated", "deleted"))
    yield f"{'would be: ' if document['dry_run'] else ''}{counts}, {document['unchanged']} unchanged"
