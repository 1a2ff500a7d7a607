"""`citadel entity`: AuthZEN's directory of entities in a running Citadel's store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer
import yaml

from citadel.api.proto.citadel.v1 import entities_pb2 as pb
from citadel.authz.sources import read_paths
from citadel.cli.client import Client, connect
from citadel.cli.documents import Document
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Column, Format, FormatOption, field, show_list, show_one
from citadel.cli.run import printable
from citadel.errors import BadFile, FailedPrecondition, InvalidInput

app = typer.Typer(help="AuthZEN's directory of entities.", no_args_is_help=True, rich_markup_mode=None)

_PAGE = 1000
_PATIENCE = 120.0  # seconds: a directory is read and compared whole
_NAMED = 10  # where a question names those that would go
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the audit log.", metavar="TEXT")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
ActionsOption = Annotated[list[str] | None, typer.Option("--action", help="An action, by its name.", metavar="NAME")]
Change = Callable[[pb.EntityWish], pb.EntityChange]


@app.callback()
def about() -> None:
    """AuthZEN's directory of entities."""


@app.command(
    epilog=examples(
        'citadel entity apply -f people.yaml --comment "new colleagues"', "citadel entity apply -f all.yaml --prune"
    )
)
def apply(
    file: Annotated[list[str], typer.Option("--file", "-f", help="File, or - for standard input.", metavar="PATH")],
    prune: Annotated[bool, typer.Option("--prune", help="Delete what is in no file.")] = False,
    comment: CommentOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Put entities and actions into the store.

    Those that are new are created, those that differ are replaced: all of it, or nothing. What is in no file stays,
    unless --prune is given.
    """
    texts, unreadable = read_paths(file, stdin=sys.stdin.buffer)
    if unreadable:
        raise BadFile(unreadable)
    files = [pb.ApplyEntitiesRequest.File(name=one.name, content=one.content) for one in texts]
    with connect(config, socket) as client:

        def change(wish: pb.EntityWish) -> pb.EntityChange:
            request = pb.ApplyEntitiesRequest(files=files, prune=prune, wish=wish)
            return client.call(client.entities.ApplyEntities, request, patience=_PATIENCE)

        _carry_out(change, comment, output, dry_run=dry_run, yes=yes, loses=prune)


@app.command(
    epilog=examples(
        "citadel entity delete user alice@example.com bob@example.com", "citadel entity delete --action can_edit"
    )
)
def delete(
    named: Annotated[
        list[str] | None, typer.Argument(help="Their type, and their ids.", metavar="TYPE ID...", show_default=False)
    ] = None,
    action: ActionsOption = None,
    comment: CommentOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Delete entities from the store, all that are named or none."""
    kind, *ids = named or [""]
    if named and not ids:
        raise InvalidInput("name a type, and the ids of those that are meant")
    keys = [pb.EntityKey(type=kind, id=one) for one in ids] + [pb.EntityKey(id=one) for one in action or ()]
    if not keys:
        raise InvalidInput("name entities by type and id, or actions with --action")
    with connect(config, socket) as client:

        def change(wish: pb.EntityWish) -> pb.EntityChange:
            return client.call(client.entities.DeleteEntities, pb.DeleteEntitiesRequest(keys=keys, wish=wish))

        _carry_out(change, comment, output, dry_run=dry_run, yes=yes)


@app.command("list", epilog=examples("citadel entity list --type user", "citadel entity list --file > entities.yaml"))
def list_entities(
    kind: Annotated[str | None, typer.Option("--type", help="Only those of this type.", metavar="TYPE")] = None,
    file: Annotated[bool, typer.Option("--file", help="Print them as a file that `apply` takes.")] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the entities and actions in the store."""
    with connect(config, socket) as client:
        found = sorted(_all(client, kind), key=lambda one: (one["type"] is None, one["type"] or "", one["id"]))
    if file:
        print(yaml.safe_dump(_as_file(found), sort_keys=False, allow_unicode=True), end="")
        return
    columns = [
        field("type", "type", none="(action)"),
        field("id", "id"),
        Column(
            "properties", lambda row: json.dumps(row["properties"], ensure_ascii=False) if row["properties"] else "-"
        ),
    ]
    show_list(found, columns, output, empty="there are none")


def _all(client: Client, kind: str | None) -> Iterator[Document]:
    after = ""
    while True:
        request = pb.ListEntitiesRequest(after=after, page_size=_PAGE, type=kind)
        page = client.call(client.entities.ListEntities, request)
        for one in page.entities:
            is_action = not one.key.HasField("type")
            yield {
                "type": None if is_action else one.key.type,
                "id": one.key.id,
                "properties": json.loads(one.properties),
                "resource_types": list(one.resource_types) if is_action else None,
            }
        if not page.next:
            return
        after = page.next


def _as_file(found: Iterable[Document]) -> dict[str, Any]:
    document: dict[str, Any] = {"entities": [], "actions": []}
    for one in found:
        more = {"properties": one["properties"]} if one["properties"] else {}
        if one["type"] is not None:
            document["entities"].append({"type": one["type"], "id": one["id"], **more})
        else:
            types = {"resource_types": one["resource_types"]} if one["resource_types"] else {}
            document["actions"].append({"name": one["id"], **more, **types})
    return document


def _carry_out(change: Change, comment: str, output: Format, *, dry_run: bool, yes: bool, loses: bool = True) -> None:
    """Carry it out. Before something is deleted, look, and ask."""
    if loses and not dry_run:
        seen = change(pb.EntityWish(comment=comment, dry_run=True))
        if seen.fault:
            raise FailedPrecondition(f"nothing was changed: {seen.fault}")
        if seen.deleted:
            names = ", ".join(map(_name, seen.deleted[:_NAMED])) + (", …" if len(seen.deleted) > _NAMED else "")
            confirm(f"Delete {len(seen.deleted)} of the entities ({names})?", yes=yes)
    done = change(pb.EntityWish(comment=comment, dry_run=dry_run))
    document = {
        "dry_run": dry_run,
        "version": f"v{done.version}" if done.version else None,
        "created": list(map(_name, done.created)),
        "updated": list(map(_name, done.updated)),
        "deleted": list(map(_name, done.deleted)),
        "unchanged": done.unchanged,
        "fault": done.fault or None,
    }
    if output is not Format.TABLE:
        show_one(document, [], output)
        return
    for sign, what in (("+", done.created), ("~", done.updated), ("-", done.deleted)):
        for key in what:
            print(printable(f"{sign} {_name(key)}"))
    counts = f"{len(done.created)} created, {len(done.updated)} updated, {len(done.deleted)} deleted"
    print(f"{'would be: ' if dry_run else ''}{counts}, {done.unchanged} unchanged")
    if done.fault:
        print(printable(f"it would be refused: {done.fault}"))
    elif not dry_run:
        print(f"the directory is v{done.version}")


def _name(key: pb.EntityKey) -> str:
    return f"{key.type} {key.id}" if key.HasField("type") else f"action {key.id}"
