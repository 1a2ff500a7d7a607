"""`citadel policy`: authorization policies: which of them a running Citadel follows, and what they say, offline."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import documents, policy_check, policy_diff, policy_files, policy_store, policy_tests
from citadel.cli.client import connect
from citadel.cli.documents import when
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Column, Format, FormatOption, field, show_one
from citadel.cli.run import say
from citadel.errors import FailedPrecondition, NotFound

app = typer.Typer(help="Authorization policies.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """Authorization policies."""


@app.command(epilog=examples("citadel policy status", "citadel policy status -o json"))
def status(config: ConfigOption = None, socket: SocketOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show which policies are in force, and since when."""
    with connect(config, socket) as client:
        found = client.call(client.admin.GetStatus, admin.GetStatusRequest())
    if not found.HasField("policies"):
        if restart := _restart(found.waiting):
            raise NotFound(f"no policies are in use yet; what is configured waits for {'; '.join(restart)}")
        raise NotFound(
            "no policies are configured", mend='set authorization.policies, or authorization.source = "store"'
        )
    rows = [
        field("source", "source"),
        field("in force", "version", none="nothing yet: every check is denied"),
        field("stored as", "stored_version"),
        field("documents", "documents"),
        when("since", "since", datetime.now(UTC)),
        field("kept from before", "restored"),
        field("fault", "fault"),
        Column("held back", lambda d: _held(d["held"]) if d["held"] else "-"),
    ]
    show_one(documents.policies(found.policies), rows, output)
    for one in _restart(found.waiting):
        say(f"not in use yet, it waits for {one}")


def _restart(waiting: Iterable[str]) -> list[str]:
    """What of the configured policies a restart would take into use, in the server's sentences."""
    return [one for one in waiting if one.startswith("a restart, for authorization.")]


def _held(held: documents.Document) -> str:
    return f"version {held['version']}, {held['documents']} documents: {held['why']}"


@app.command("confirm", epilog=examples("citadel policy confirm 1f0c2b7a9d3e4f50617283940a1b2c3d"))
def confirm_held(
    version: Annotated[
        str,
        typer.Argument(help="Which: `citadel policy status` shows it.", metavar="VERSION"),
    ],
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Apply policies that are held back.

    They are if most of those in force are not among them: where no policy applies, everything is
    allowed.
    """
    with connect(config, socket) as client:
        found = client.call(client.admin.GetStatus, admin.GetStatusRequest())
        if not found.policies.held_version:
            raise FailedPrecondition("no policies wait to be confirmed", mend="see: citadel policy status")
        if found.policies.held_version == version:
            confirm(f"Apply version {version}, though {found.policies.held_why}?", yes=yes)
        now = client.call(client.admin.ConfirmPolicies, admin.ConfirmPoliciesRequest(version=version))
    say(f"version {now.version} is in force, with {now.documents} documents")


app.command("apply", epilog=policy_store.APPLY_EXAMPLES)(policy_store.apply)
app.command("delete", epilog=policy_store.DELETE_EXAMPLES)(policy_store.delete)
app.command("list", epilog=policy_store.LIST_EXAMPLES)(policy_store.list_documents)
app.command("history", epilog=policy_store.HISTORY_EXAMPLES)(policy_store.history)
app.command("rollback", epilog=policy_store.ROLLBACK_EXAMPLES)(policy_store.rollback)
app.command("diff", epilog=policy_diff.DIFF_EXAMPLES)(policy_diff.diff)
app.command("export", epilog=policy_diff.EXPORT_EXAMPLES)(policy_diff.export)
app.command("check", epilog=policy_check.CHECK_EXAMPLES)(policy_check.check)
app.command("explain", epilog=policy_check.EXPLAIN_EXAMPLES)(policy_check.explain)
app.command("lint", epilog=policy_files.LINT_EXAMPLES)(policy_files.lint)
app.command("show", epilog=policy_files.SHOW_EXAMPLES)(policy_files.show)
app.command("test", epilog=policy_tests.TEST_EXAMPLES)(policy_tests.run_tests)
