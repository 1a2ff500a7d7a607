"""`citadel ca`: the authorities, in whatever state they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli import documents
from citadel.cli.certificates import pem
from citadel.cli.client import Client, connect
from citadel.cli.completion import skids
from citadel.cli.documents import shown, skid_column, when
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Column, Format, FormatOption, field, show_list, show_one
from citadel.cli.run import printable, say
from citadel.cli.steps import DryRunOption, ReasonOption, show_step
from citadel.errors import InvalidInput, NotFound

app = typer.Typer(help="Authorities: roots and issuing CAs.", no_args_is_help=True, rich_markup_mode=None)


def columns(now: datetime) -> list[Column]:
    """The columns of authorities; `status` shows them too."""
    return [
        field("kind", "kind"),
        field("state", "state"),
        skid_column("skid", "skid"),
        field("subject", "subject"),
        when("expires", "not_after", now),
        skid_column("signed by", "signed_by"),
        field("leaves", "live_leaves"),
        field("note", "note", none=""),
    ]


@app.command("list", epilog=examples("citadel ca list", "citadel ca list -o json"))
def list_authorities(
    config: ConfigOption = None, socket: SocketOption = None, output: FormatOption = Format.TABLE
) -> None:
    """List every authority, in every state.

    Kind, state, SKID, subject, validity, who signed it, and how many live leaves it has signed.
    """
    with connect(config, socket) as client:
        found = [documents.authority(one) for one in authorities(client)]
    show_list(found, columns(datetime.now(UTC)), output, empty="there are no authorities yet")


@app.command(epilog=examples("citadel ca show 0cadb72c", "citadel ca show 0cadb72c --pem"))
def show(
    skid: Annotated[
        str, typer.Argument(help="SKID, or its first digits.", metavar="SKID", show_default=False, autocompletion=skids)
    ],
    as_pem: Annotated[bool, typer.Option("--pem", help="Print its newest certificate as PEM instead.")] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show one authority with all its certificates."""
    with connect(config, socket) as client:
        one = chosen(authorities(client), skid)
    if as_pem:
        print(pem(one.certificates[0].der), end="")
        return
    show_one(documents.authority(one), _rows(datetime.now(UTC)), output)


@app.command(epilog=examples("citadel ca rotate --reason 'yearly'"))
def rotate(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make another issuing CA under the root, which signs from now on.

    What the one before signed runs out by itself.
    """
    with connect(config, socket) as client:
        request = pb.RotationCommand(reason=reason, dry_run=dry_run)
        show_step(client.call(client.rotation.RotateIssuing, request), output)


@app.command(epilog=examples("citadel ca taint 0cadb72c --reason 'key stolen'"))
def taint(
    skid: Annotated[
        str, typer.Argument(help="SKID, or its first digits.", metavar="SKID", show_default=False, autocompletion=skids)
    ],
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Stop an issuing CA whose key is compromised, and replace its root.

    It is in no bundle that it could be taken out of: what its key signs is trusted as long as its root is. Follow the
    rotation of the root with: citadel root status --watch
    """
    with connect(config, socket) as client:
        would = client.call(client.rotation.TaintIssuing, pb.TaintRootRequest(skid=skid, reason=reason, dry_run=True))
        if dry_run:
            show_step(would, output)
            return
        say(printable(would.sentence))
        confirm(f"Taint issuing CA {skid}? This cannot be taken back.", yes=yes)
        request = pb.TaintRootRequest(skid=skid, reason=reason, unasked=yes)
        show_step(client.call(client.rotation.TaintIssuing, request), output)


def authorities(client: Client) -> list[admin.Authority]:
    return list(client.call(client.admin.ListAuthorities, admin.ListAuthoritiesRequest()).authorities)


def chosen(among: list[admin.Authority], skid: str) -> admin.Authority:
    """The one whose SKID starts so. Raises NotFound, InvalidInput."""
    wanted = skid.replace(":", "").lower()
    whole = [one for one in among if one.skid == wanted]  # a plugged-in CA's may be the beginning of another's
    fitting = whole or [one for one in among if one.skid.startswith(wanted)]
    if not fitting:
        raise NotFound(f"there is no authority {skid!r}", mend="see: citadel ca list")
    if len(fitting) > 1:
        raise InvalidInput(f"{len(fitting)} authorities have a SKID that starts with {skid!r}", mend="say more of it")
    return fitting[0]


def _rows(now: datetime) -> list[Column]:
    return [
        skid_column("skid", "skid"),
        field("kind", "kind"),
        Column("state", lambda d: f"{d['state']} since {shown(d['changed_at'], now)}"),
        field("subject", "subject"),
        when("valid from", "not_before", now),
        when("valid until", "not_after", now),
        skid_column("signed by", "signed_by"),
        field("root", "root_skid"),
        field("live leaves", "live_leaves"),
        field("key is in", "key_source"),
        field("note", "note"),
        Column(
            "certificates", lambda d: "\n".join(f"{c['fingerprint']}  serial {c['serial']}" for c in d["certificates"])
        ),
    ]
