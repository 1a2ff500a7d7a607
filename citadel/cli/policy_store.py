"""`citadel policy apply`, `delete`, `list`, `history` and `rollback`: the policies in a running Citadel's store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
import yaml

from citadel.api.proto.citadel.v1 import policies_pb2 as pb
from citadel.authz.sources import read_paths
from citadel.authz.stored import Named
from citadel.authz.stored.model import version_number
from citadel.cli import documents
from citadel.cli.client import Client, connect
from citadel.cli.documents import Document, when
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Column, Format, FormatOption, field, show_list, show_one
from citadel.cli.policy_options import FilesOption
from citadel.cli.run import printable, say
from citadel.errors import BadFile, FailedPrecondition, InvalidInput

APPLY_EXAMPLES = examples(
    'citadel policy apply -f policies/ --comment "carts for the new shop"',
    "citadel policy apply -f policies/ --prune --dry-run",
    "citadel policy apply -f cart.yaml --expect v12",
)
DELETE_EXAMPLES = examples("citadel policy delete shop/cart", "citadel policy delete RequestAuthentication/shop/login")
LIST_EXAMPLES = examples(
    "citadel policy list", "citadel policy list --version v11", "citadel policy list --documents > policies.yaml"
)
HISTORY_EXAMPLES = examples("citadel policy history", "citadel policy history AuthorizationPolicy/shop/cart")
ROLLBACK_EXAMPLES = examples('citadel policy rollback v11 --comment "v12 denied the gateway"')

_PAGE = 1000
_PATIENCE = 300.0  # seconds: ten thousand policies are validated whole, on whatever machine that is
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.", metavar="TEXT")]
ExpectOption = Annotated[
    str | None,
    typer.Option("--expect", help="Refuse if the newest version is another one by now.", metavar="VERSION"),
]
ConfirmOption = Annotated[bool, typer.Option("--confirm", help="It is meant to lose, or to open, as much as it does.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Change = Callable[[pb.PolicyWish], pb.PolicyChange]


def apply(
    file: FilesOption,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what is in no file.")] = False,
    comment: CommentOption = "",
    expect: ExpectOption = None,
    confirmed: ConfirmOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Put policies into the store.

    Those that are new are created, those that differ are replaced: all of it as one new version, or nothing. What is in
    no file stays, unless --prune is given.
    """
    texts, unreadable = read_paths(file, stdin=sys.stdin.buffer)
    if unreadable:
        raise BadFile(unreadable)
    files = [pb.ApplyPoliciesRequest.File(name=one.name, content=one.content) for one in texts]
    with connect(config, socket) as client:

        def change(wish: pb.PolicyWish) -> pb.PolicyChange:
            request = pb.ApplyPoliciesRequest(files=files, prune=prune, wish=wish)
            return client.call(client.policies.ApplyPolicies, request, patience=_PATIENCE)

        wish = _wish(comment, expect, confirmed, dry_run)
        _carry_out(change, wish, output, yes=yes or confirmed, loses=prune)


def delete(
    names: Annotated[list[str], typer.Argument(help="[KIND/]NAMESPACE/NAME", metavar="NAME", show_default=False)],
    comment: CommentOption = "",
    expect: ExpectOption = None,
    confirmed: ConfirmOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Delete policies from the store, all that are named or none.

    They stay in the history.
    """
    for name in names:
        Named.parse(name)
    with connect(config, socket) as client:

        def change(wish: pb.PolicyWish) -> pb.PolicyChange:
            request = pb.DeletePoliciesRequest(names=names, wish=wish)
            return client.call(client.policies.DeletePolicies, request, patience=_PATIENCE)

        _carry_out(change, _wish(comment, expect, confirmed, dry_run), output, yes=yes or confirmed)


def rollback(
    version: Annotated[str, typer.Argument(help="Which: `citadel policy history` lists them.", metavar="VERSION")],
    comment: CommentOption = "",
    expect: ExpectOption = None,
    confirmed: ConfirmOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make the policies what they were in an earlier version.

    That is a new version: nothing leaves the history.
    """
    number = version_number(version)
    with connect(config, socket) as client:

        def change(wish: pb.PolicyWish) -> pb.PolicyChange:
            request = pb.RollbackPoliciesRequest(version=number, wish=wish)
            return client.call(client.policies.RollbackPolicies, request, patience=_PATIENCE)

        _carry_out(change, _wish(comment, expect, confirmed, dry_run), output, yes=yes or confirmed)


def list_documents(
    version: Annotated[
        str | None, typer.Option("--version", help="Of this version (default: the newest).", metavar="VERSION")
    ] = None,
    whole: Annotated[bool, typer.Option("--documents", help="Print the documents themselves, as YAML.")] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the policies in the store."""
    number = 0 if version is None else version_number(version)
    with connect(config, socket) as client:
        found = stored(client, number)
    if whole:
        for one in found.documents:
            print("---\n" + yaml.safe_dump(json.loads(one.body), sort_keys=False, allow_unicode=True), end="")
        return
    rows = [_listed(one) for one in found.documents]
    columns = [
        field("kind", "kind"),
        field("name", "name"),
        field("action", "action"),
        Column("dry run", lambda row: "yes" if row["dry_run"] else "-"),
        field("rules", "rules"),
        field("since", "since"),
    ]
    nothing = "no policies were applied yet" if not found.HasField("version") else f"v{found.version.number} has none"
    show_list(rows, columns, output, empty=nothing)


def history(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Only what changed this document: KIND/NAMESPACE/NAME.", metavar="NAME", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", metavar="N", min=1, max=100_000)] = 20,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the versions of the policies in the store.

    Newest first: who made them, when, and why.
    """
    key = None if name is None else _key(name)
    found: list[Document] = []
    with connect(config, socket) as client:
        before = 0
        while len(found) < limit:
            size = min(limit - len(found), _PAGE)
            request = pb.ListPolicyVersionsRequest(page_size=size, before=before, key=key)
            page = client.call(client.policies.ListPolicyVersions, request).versions
            found += map(_version, page)
            if len(page) < size:
                break
            before = page[-1].number
    columns = [
        field("version", "version"),
        when("at", "at", datetime.now(UTC)),
        field("by", "actor"),
        field("did", "action"),
        Column("created/updated/deleted", lambda d: f"{d['created']}/{d['updated']}/{d['deleted']}"),
        field("documents", "documents"),
        field("comment", "comment"),
    ]
    show_list(found, columns, output, empty="there are no versions")


def stored(client: Client, number: int) -> pb.ListPoliciesResponse:
    """The documents of a version; 0: the newest."""
    return client.call(client.policies.ListPolicies, pb.ListPoliciesRequest(version=number))


def _wish(comment: str, expect: str | None, confirmed: bool, dry_run: bool) -> pb.PolicyWish:
    base = None if expect is None else 0 if expect == "v0" else version_number(expect)
    return pb.PolicyWish(comment=comment, base=base, confirmed=confirmed, dry_run=dry_run)


def _carry_out(change: Change, wish: pb.PolicyWish, output: Format, *, yes: bool, loses: bool = True) -> None:
    """Carry it out. Of what may lose something, look first, ask, and then do just what was looked at."""
    if loses and not wish.dry_run:
        _ask(change, wish, yes=yes)
    done = change(wish)
    document = _document(done, dry_run=wish.dry_run)
    if output is not Format.TABLE:
        show_one(document, [], output)
        return
    for line in _lines(document):
        print(printable(line))
    for text in (*done.warnings, *(f"not read: {one}" for one in done.skipped)):
        say(printable(text))


def _ask(change: Change, wish: pb.PolicyWish, *, yes: bool) -> None:
    look = pb.PolicyWish()
    look.CopyFrom(wish)
    look.dry_run = True
    seen = change(look)
    if seen.fault:
        raise FailedPrecondition(f"nothing was changed: {seen.fault}")
    if seen.doubt and not wish.confirmed:
        raise FailedPrecondition(f"nothing was changed: {seen.doubt}", mend="if that is meant, say --confirm")
    if seen.deleted:
        names = ", ".join(_name(one) for one in seen.deleted[:10]) + (", …" if len(seen.deleted) > 10 else "")
        confirm(f"Delete {len(seen.deleted)} of the policies ({names})?", yes=yes)
    wish.base = seen.base


def _document(done: pb.PolicyChange, *, dry_run: bool) -> Document:
    return {
        "dry_run": dry_run,
        "base": f"v{done.base}" if done.base else None,
        "version": _version(done.version) if done.HasField("version") else None,
        "created": [_name(one) for one in done.created],
        "updated": [_name(one) for one in done.updated],
        "deleted": [_name(one) for one in done.deleted],
        "unchanged": done.unchanged,
        "needs_confirmation": done.doubt or None,
        "in_force": done.in_force,
        "fault": done.fault or None,
        "warnings": list(done.warnings),
        "skipped": list(done.skipped),
    }


def _lines(document: Document) -> Iterator[str]:
    for sign, what in (("+", "created"), ("~", "updated"), ("-", "deleted")):
        for name in document[what]:
            yield f"{sign} {name}"
    counts = ", ".join(f"{len(document[what])} {what}" for what in ("created", "updated", "deleted"))
    yield f"{'would be: ' if document['dry_run'] else ''}{counts}, {document['unchanged']} unchanged"
    if document["dry_run"] and document["fault"]:
        yield f"it would be refused: {document['fault']}"
    if document["dry_run"] and document["needs_confirmation"]:
        yield f"it would have to be confirmed (--confirm): {document['needs_confirmation']}"
    version = document["version"]
    if version is not None:
        if document["in_force"]:
            standing = f"in force here, as {version['set_version']}"
        else:
            standing = f"not in force here{': ' + document['fault'] if document['fault'] else ' yet'}"
        yield f"stored as {version['version']}; {standing}"


def _version(one: pb.PolicyVersion) -> Document:
    return {
        "version": f"v{one.number}",
        "at": documents.time(one.at),
        "actor": one.actor,
        "action": f"rollback to v{one.restores}" if one.restores else one.action,
        "comment": one.comment,
        "content": one.content,
        "set_version": one.set_version,
        "documents": one.documents,
        "created": one.created,
        "updated": one.updated,
        "deleted": one.deleted,
        "confirmed": one.confirmed,
        "restores": f"v{one.restores}" if one.restores else None,
    }


def _listed(one: pb.ListPoliciesResponse.Document) -> Document:
    body = json.loads(one.body)
    spec: Any = body.get("spec") or {}
    policy = one.key.kind == "AuthorizationPolicy"
    annotations = body["metadata"].get("annotations") or {}
    return {
        "kind": one.key.kind,
        "name": f"{one.key.namespace}/{one.key.name}",
        "action": spec.get("action", "ALLOW") if policy else None,
        "dry_run": annotations.get("istio.io/dry-run") in ("1", "t", "T", "TRUE", "true", "True") if policy else None,
        "rules": len(spec.get("rules") or []) if policy else None,
        "since": f"v{one.since}",
        "document": body,
    }


def _name(key: pb.PolicyKey) -> str:
    return f"{key.kind}/{key.namespace}/{key.name}"


def _key(text: str) -> pb.PolicyKey:
    named = Named.parse(text)
    if named.kind is None:
        raise InvalidInput(f"{text!r} names no kind", mend=f"say AuthorizationPolicy/{named.name}, for example")
    return pb.PolicyKey(kind=named.kind.value, namespace=named.name.namespace, name=named.name.name)
