"""The schedule of rotation as messages."""

from __future__ import annotations

from citadel.api.admin import convert
from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.ca.rotation.calendar import Calendar
from citadel.ca.rotation.schedule import Planned
from citadel.quiet_hours import QuietHours


def planned(found: Planned | None) -> pb.PlannedRotation | None:
    if found is None:
        return None
    approved = found.approved
    return pb.PlannedRotation(
        root=found.root.hex,
        at=convert.seconds(found.at),
        waits=str(found.waits),
        why=found.why,
        approved_by=approved.actor if approved else "",
        approved_at=convert.seconds(approved.at if approved else None),
        needs_approval=found.needs_approval,
    )


def schedule(found: Calendar, quiet: QuietHours) -> pb.Schedule:
    return pb.Schedule(
        begins=convert.seconds(found.begins),
        ends=convert.seconds(found.ends),
        entries=[
            pb.ScheduleEntry(
                at=convert.seconds(entry.at),
                kind=str(entry.kind),
                event=str(entry.event),
                authority=entry.authority,
                note=entry.note,
            )
            for entry in found.entries
        ],
        findings=[
            pb.ScheduleFinding(severity=str(one.severity), sentence=one.sentence, mend=one.mend)
            for one in found.findings
        ],
        planned=planned(found.planned),
        quiet_hours=[f"{one} {quiet.zone}" for one in quiet.ranges],
    )
