"""`citadel root plan` and `approve`: what is replaced by itself, what would break, and the operator's word for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli.client import connect
from citadel.cli.documents import Document, shown, time
from citadel.cli.options import ConfigOption, SocketOption
from citadel.cli.output import Format, FormatOption, field, print_table, show_one
from citadel.cli.run import printable
from citadel.cli.steps import DryRunOption, ReasonOption, show_step

_SHOWN = 3  # of a row of issuing CAs


def plan(
    days: Annotated[int, typer.Option("--days", help="How far to look.", min=1, max=3660, metavar="DAYS")] = 730,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show what will be replaced, and when; and what would break.

    Every root and issuing CA of the next two years, at the earliest moment: as if all who must acknowledge do so at
    once.
    """
    with connect(config, socket) as client:
        found = document(client.call(client.rotation.GetSchedule, pb.GetScheduleRequest(days=days)))
    if output is not Format.TABLE:
        show_one(found, [], output)
        return
    now = datetime.now(UTC)
    for line in lines(found, now):
        print(printable(line))
    if rows := table(found, now):
        print()
        print_table([field(key, key, none="") for key in ("when", "what", "event", "authority", "note")], rows)


def approve(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let the planned rotation begin when its time has come.

    Needed if rotation.schedule.approval is set, and after one was taken back.
    """
    with connect(config, socket) as client:
        request = pb.RotationCommand(reason=reason, dry_run=dry_run)
        show_step(client.call(client.rotation.ApproveRotation, request), output)


def planned_document(one: pb.PlannedRotation) -> Document:
    return {
        "root": one.root,
        "at": time(one.at),
        "waits_for": one.waits or None,
        "why": one.why,
        "needs_approval": one.needs_approval,
        "approved_by": one.approved_by or None,
        "approved_at": time(one.approved_at),
    }


def document(found: pb.Schedule) -> Document:
    return {
        "begins": time(found.begins),
        "ends": time(found.ends),
        "quiet_hours": list(found.quiet_hours),
        "planned": planned_document(found.planned) if found.HasField("planned") else None,
        "findings": [{"severity": f.severity, "finding": f.sentence, "mend": f.mend} for f in found.findings],
        "entries": [
            {"at": time(e.at), "kind": e.kind, "event": e.event, "authority": e.authority, "note": e.note}
            for e in found.entries
        ],
    }


def next_line(planned: Document | None, now: datetime) -> str:
    """One sentence on what is planned next."""
    if planned is None:
        return "no further rotation of the root is planned"
    waits = f"; {planned['why']}" if planned["waits_for"] not in (None, "time") else ""
    approved = f", approved by {planned['approved_by']}" if planned["approved_by"] else ""
    unapproved = ", once it is approved" if planned["needs_approval"] and not planned["approved_by"] else ""
    return f"root {planned['root'][:8]} is to be replaced {shown(planned['at'], now)}{approved or unapproved}{waits}"


def lines(found: Document, now: datetime) -> list[str]:
    """What stands above the table."""
    text = [f"next          {next_line(found['planned'], now)}"]
    text += [f"quiet hours   {one}" for one in found["quiet_hours"]]
    for one in found["findings"]:
        mend = f" ({one['mend']})" if one["mend"] else ""
        text.append(f"{one['severity']:<13} {one['finding']}{mend}")
    return text


def table(found: Document, now: datetime) -> list[Document]:
    """Rows for people. Issuing CAs come every few days: of those between two other rows only the first are shown."""
    rows: list[Document] = []
    run: list[Document] = []
    for entry in [*found["entries"], None]:
        if entry is not None and (entry["kind"], entry["event"]) == ("issuing", "renew"):
            run.append(entry)
            continue
        rows += [_row(one, now) for one in run[:_SHOWN]]
        if len(run) > _SHOWN:
            more = f"and {len(run) - _SHOWN} more until {shown(run[-1]['at'], now)}: -o json shows all"
            rows.append({"when": "", "what": "issuing CA", "event": "renew", "authority": "", "note": more})
        run = []
        if entry is not None:
            rows.append(_row(entry, now))
    return rows


def _row(entry: Document, now: datetime) -> Document:
    name = str(entry["authority"])
    return {
        "when": shown(entry["at"], now),
        "what": "root" if entry["kind"] == "root" else "issuing CA",
        "event": entry["event"],
        "authority": name if " " in name else name[:8],
        "note": entry["note"],
    }
