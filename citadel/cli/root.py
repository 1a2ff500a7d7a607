"""`citadel root`: rotation of the root, whole or step by step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli import root_brought, root_plan, root_view
from citadel.cli.client import Client, connect
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, YesOption, confirm, examples
from citadel.cli.output import Format, FormatOption, show_list, show_one
from citadel.cli.root_follow import follow, newest, planned_next, plans, waiting
from citadel.cli.run import printable, say
from citadel.cli.steps import DryRunOption, ReasonOption, show_step
from citadel.errors import FailedPrecondition

app = typer.Typer(help="Rotation of the root.", no_args_is_help=True, rich_markup_mode=None)

ForceOption = Annotated[
    bool, typer.Option("--force", help="Do it although somebody is left behind; says whom, and asks.")
]
HookOption = Annotated[bool, typer.Option("--force", help="Do it although a hook says no (rotation.hooks).")]
CsrOutOption = Annotated[
    Path | None, typer.Option("--csr-out", help="Write a request for an offline root to sign.", metavar="FILE")
]
CertInOption = Annotated[
    Path | None, typer.Option("--cert-in", help="What it signed: PEM, with its chain and the root.", metavar="FILE")
]
CertOption = Annotated[Path | None, typer.Option("--cert", help="A root that is handed in: PEM.", metavar="FILE")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="Its private key: PEM, mode 0600. It is sealed.", metavar="FILE")
]
CrossSignOption = Annotated[
    bool, typer.Option("--cross-sign", help="The root that signs now certifies the new one too.")
]
FromArgument = Annotated[
    str | None,
    typer.Argument(
        help="With --to cacerts: the folder, if it is not the configured one. With --to vault: the id of an issuer in "
        "the root's mount, if it is not the pinned one.",
        metavar="DIR|ISSUER",
    ),
]
FollowOption = Annotated[
    float | None, typer.Option("--timeout", help="Follow for at most so long.", min=0, metavar="SECONDS")
]
HarmlessYesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask: nor does it without; for scripts that say it everywhere.")
]
IssuerOption = Annotated[
    str,
    typer.Option("--issuer", help="With --to vault: another issuer than the pinned one, by its id.", metavar="ISSUER"),
]
BackToArgument = Annotated[
    str, typer.Argument(help="SKID of the root that is to sign again, or its first digits.", metavar="SKID")
]
SkidArgument = Annotated[str, typer.Argument(help="SKID of the root, or its first digits.", metavar="SKID")]


class RootKind(StrEnum):
    """Of the root to go to; see ca.rotation.RootKind."""

    DISK = "disk"
    CACERTS = "cacerts"
    VAULT = "vault"


ToOption = Annotated[
    RootKind | None,
    typer.Option(
        "--to", help="One that Citadel makes, the one plugged in, or Vault's; without it, as `root.kind` says."
    ),
]
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"  # home, clear screen and scrollback (ECMA-48, xterm)


@app.command(
    epilog=examples(
        "citadel root rotate",
        "citadel root rotate --detach --reason 'yearly'",
        "citadel root rotate --to cacerts /etc/new-ca",
        "citadel root rotate --to vault 9a7740b7-b6ff-05ce-209c-0e3fca75c08f",
        "citadel root rotate --cert-in signed.pem",
    )
)
def rotate(
    source: FromArgument = None,
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Follow it to its end, or leave it to itself.")] = True,
    timeout: FollowOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Abandon the root that is on its way.")] = False,
    to: ToOption = None,
    cert_in: CertInOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    cross_sign: CrossSignOption = False,
    force: HookOption = False,
    dry_run: DryRunOption = False,
    yes: HarmlessYesOption = False,  # noqa: ARG001  # see there
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Replace the root, from beginning to end.

    Prepare, distribute, activate, reissue, remove.

    Each step is taken when those who are alive have acknowledged the one before. It takes rotation.session_life at
    least, an hour if nothing else is set: for so long old connections may live. Ctrl-C stops nothing but the showing;
    with --detach nothing is shown.

    With --to cacerts DIR: to the CA in that folder, in Istio's layout; it is read once, and kept.

    With --to vault ISSUER: this is your approval of that issuer; nobody trusts it before.

    With --cert-in: to an offline root, which signed what `root prepare --csr-out` wrote. With --cert and --key: to that
    root.
    """
    issuer = source or "" if to is RootKind.VAULT else ""
    folder = Path(source) if source and not issuer else None
    files = root_brought.Files(None, cert_in, cert, key, cross_sign, folder=folder, to=to or "")
    request = pb.PrepareRootRequest(
        reason=reason,
        dry_run=dry_run,
        automatic=True,
        replace=replace,
        to=to or "",
        force=force,
        certificates=files.certificates(),
        key=files.private_key(),
        issuing_key=files.issuing_key(),
        cross_sign=cross_sign,
        issuer=issuer,
    )
    with connect(config, socket) as client:
        before = {one["id"] for one in plans(client, all_of_them=True)}
        step = client.call(client.rotation.PrepareRoot, request)
        began = {one["id"] for one in plans(client, all_of_them=True)} - before
        if dry_run or not began:  # another CA under the root that signs, or certificate of it: no root changes
            show_step(step, output)
            return
        _follow(client, step, began.pop(), output, wait=wait, timeout=timeout)


@app.command(
    "status", epilog=examples("citadel root status", "citadel root status --watch", "citadel root status --all")
)
def root_status(
    all_of_them: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between two looks.", min=0.2, metavar="SECONDS")
    ] = 1.0,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show the rotations under way.

    Phase, who is behind, what comes next, how to go back.
    """
    with connect(config, socket) as client:
        while True:
            found = plans(client, all_of_them=all_of_them)
            if watch and output is Format.TABLE and sys.stdout.isatty():
                print(_CLEAR, end="")
            if output is Format.TABLE:
                now = datetime.now(UTC)
                text = "\n\n".join(map("\n".join, root_view.pages(found, now)))
                print(text or printable(f"no rotation is under way; {planned_next(client, now)}"))
                for one in waiting(client):
                    print(printable(root_brought.line(one, now)))
            else:
                show_list(found, [], output, empty="")
            if not watch:
                return
            sys.stdout.flush()
            time.sleep(interval)


@app.command(
    epilog=examples(
        "citadel root prepare --reason 'step by step'",
        "citadel root prepare --csr-out ca.csr",
        "citadel root prepare --cert-in signed.pem",
        "citadel root prepare --cert root.pem --key root.key",
    )
)
def prepare(
    reason: ReasonOption = "",
    replace: Annotated[bool, typer.Option("--replace", help="Abandon the root that is on its way.")] = False,
    to: ToOption = None,
    issuer: IssuerOption = "",
    csr_out: CsrOutOption = None,
    cert_in: CertInOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    cross_sign: CrossSignOption = False,
    force: HookOption = False,
    dry_run: DryRunOption = False,
    yes: HarmlessYesOption = False,  # noqa: ARG001  # see there
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Add a new root to the trust bundle.

    One that is made, or one that is brought. The next steps wait for their commands.

    For a root that is offline: --csr-out, have the request signed, --cert-in.
    """
    files = root_brought.Files(csr_out, cert_in, cert, key, cross_sign, to=to or "")
    if csr_out is not None:
        with connect(config, socket) as client:
            root_brought.request(client, csr_out, reason=reason, replace=replace, dry_run=dry_run, output=output)
        return
    request = pb.PrepareRootRequest(
        reason=reason,
        dry_run=dry_run,
        automatic=False,
        replace=replace,
        to=to or "",
        force=force,
        certificates=files.certificates(),
        key=files.private_key(),
        cross_sign=cross_sign,
        issuer=issuer,
    )
    with connect(config, socket) as client:
        show_step(client.call(client.rotation.PrepareRoot, request), output)


@app.command(epilog=examples("citadel root activate"))
def activate(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let the new root sign. Refused while a client has not acknowledged it."""
    with connect(config, socket) as client:
        request = pb.RotationCommand(reason=reason, dry_run=dry_run, force=force)
        _do(client, client.rotation.ActivateRoot, request, output, yes=yes)


@app.command(epilog=examples("citadel root remove 0cadb72c"))
def remove(
    skid: SkidArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Take the old root out of the bundle, for good. Refused while a certificate in use chains to it."""
    with connect(config, socket) as client:
        request = pb.RotationCommand(skid=skid, reason=reason, dry_run=dry_run, force=force)
        _do(client, client.rotation.RemoveRoot, request, output, yes=yes)


@app.command(epilog=examples("citadel root taint 0cadb72c --reason 'key leaked'"))
def taint(
    skid: SkidArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask; and when the short gate ends, go on whoever is left behind."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Follow it to its end, or leave it to itself.")] = True,
    timeout: FollowOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Replace a root whose key is compromised, in one go.

    Of the root that signs: another is made, distributed, activated after a short gate, everything is reissued, and the
    tainted root is revoked. Of one that is on its way: it is out at once.
    """
    with connect(config, socket) as client:
        would = client.call(client.rotation.TaintRoot, pb.TaintRootRequest(skid=skid, reason=reason, dry_run=True))
        if dry_run:
            show_step(would, output)
            return
        say(printable(would.sentence))
        confirm(f"Taint root {skid}? This cannot be taken back.", yes=yes)
        step = client.call(client.rotation.TaintRoot, pb.TaintRootRequest(skid=skid, reason=reason, unasked=yes))
        _follow(client, step, newest(client)["id"], output, wait=wait, timeout=timeout)


@app.command(epilog=examples("citadel root revoke 0cadb72c"))
def revoke(
    skid: SkidArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Take a tainted root out of the bundle. Refused while a certificate in use chains to it."""
    with connect(config, socket) as client:
        request = pb.RotationCommand(skid=skid, reason=reason, dry_run=dry_run, force=force)
        _do(client, client.rotation.RevokeRoot, request, output, yes=yes)


@app.command(epilog=examples("citadel root rollback --reason 'canary failed'", "citadel root rollback 0cadb72c"))
def rollback(
    skid: BackToArgument = "",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: HarmlessYesOption = False,  # noqa: ARG001  # see there
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Go back to the old root.

    Before activation the new root is abandoned; after it the old one signs again. Said twice it does not undo itself:
    from there another root signs only if it is named by its SKID.
    """
    with connect(config, socket) as client:
        request = pb.RotationCommand(skid=skid, reason=reason, dry_run=dry_run)
        _do(client, client.rotation.RollbackRoot, request, output, yes=True)


@app.command(epilog=examples("citadel root abandon"))
def abandon(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: HarmlessYesOption = False,  # noqa: ARG001  # see there
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Take the new root out of the bundle again, before it signs."""
    with connect(config, socket) as client:
        request = pb.RotationCommand(reason=reason, dry_run=dry_run)
        _do(client, client.rotation.AbandonRoot, request, output, yes=True)


app.command(epilog=examples("citadel root plan", "citadel root plan --days 90", "citadel root plan -o json"))(
    root_plan.plan
)
app.command(epilog=examples("citadel root approve --reason 'change 4711'"))(root_plan.approve)


def _do(
    client: Client,
    method: Callable[..., pb.RotationStep],
    request: pb.RotationCommand,
    output: Format,
    *,
    yes: bool,
) -> None:
    """One step. With `force`, first what it would cost."""
    if request.force and not request.dry_run:
        careful = pb.RotationCommand(skid=request.skid, dry_run=True)
        try:
            client.call(method, careful)
        except FailedPrecondition as refusal:
            say(printable(refusal.message))
            confirm("Do it all the same?", yes=yes)
    show_step(client.call(method, request), output)


def _follow(
    client: Client, step: pb.RotationStep, plan_id: str, output: Format, *, wait: bool, timeout: float | None
) -> None:
    plan = next(one for one in plans(client, all_of_them=True) if one["id"] == plan_id)
    quiet = output is not Format.TABLE
    if not quiet:
        print(printable(step.sentence), flush=True)
        if wait:
            print(root_view.outlook(plan), flush=True)
    missed = ""
    if wait and plan["phase"] not in ("done", "abandoned"):
        try:
            began, plan = plan, follow(client, plan["id"], timeout=timeout, quiet=quiet)
            missed = root_view.missed(began, plan)
        except KeyboardInterrupt:
            say("\nthe rotation goes on by itself; look at it with: citadel root status --watch")
            raise typer.Exit(Exit.INTERRUPTED) from None
    if quiet:
        show_one(plan, [], output)
    elif not wait:
        print("it goes on by itself; look at it with: citadel root status --watch")
    if missed:
        say(printable(missed))
        raise typer.Exit(Exit.FAILED)
