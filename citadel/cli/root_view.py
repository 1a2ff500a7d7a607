"""How a rotation is shown: phase, counts, the laggards by name, when the next step may be, and how to go back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli.documents import Document, shown, time
from citadel.cli.run import printable
from citadel.cli.times import rough

_MOST_NAMES = 20
_BEHIND = "not acknowledged by"  # how a gate begins to name them; they are listed by themselves


def document(plan: pb.RotationPlan) -> Document:
    """A plan as `-o json` shows it. Times are RFC 3339 in UTC, or null."""
    gate = plan.gate
    return {
        "id": plan.id,
        "phase": plan.phase,
        "incoming": plan.incoming,
        "outgoing": plan.outgoing,
        "actor": plan.actor,
        "reason": plan.reason,
        "started_at": time(plan.started_at),
        "phase_at": time(plan.phase_at),
        "automatic": plan.automatic,
        "emergency": plan.emergency,
        "asks": plan.asks,
        "rolled_back": plan.rolled_back,
        "bundle_sequence": plan.sequence,
        "session_seconds": plan.session_seconds,
        "gate": {
            "open": gate.open,
            "expected": gate.expected,
            "connected": gate.connected,
            "acknowledged": gate.acknowledged,
            "behind": [_behind(b) for b in gate.behind],
            "excused": [_behind(b) for b in gate.excused],
            "assumed": gate.assumed,
            "certificates_left": gate.leaves_left,
            "opens_at": time(gate.opens_at),
            "why": list(gate.why),
        },
        "planned": plan.planned,
        "held": list(plan.held),
        "left_behind": list(plan.left_behind),
        "next": next_step(plan),
        "back": way_back(plan),
    }


def documents(plans: Sequence[pb.RotationPlan]) -> list[Document]:
    """All plans, oldest first, with those that are over; each says what goes back from where it stands beside the
    others."""
    found = [document(plan) for plan in plans]
    gone = {one["outgoing"] for one in found if one["phase"] == "done"}
    for place, one in enumerate(found):
        if one["incoming"] in gone:  # what came after it has taken its place: nothing leads back from there
            one["back"] = ""
        newer = [other for other in found[place + 1 :] if is_open(other)]
        if one["back"] and newer:
            undone = [other for other in reversed(newer) if other["back"] and not other["rolled_back"]]
            one["back"] = ", then ".join(map(_named, [*undone, one]))
    return found


def _named(one: Document) -> str:
    """The way back from one of several: with the root named, since after a rollback only that leads further back."""
    return one["back"] if one["phase"] == "distributing" else f"citadel root rollback {one['outgoing'][:8]}"


def pages(plans: Sequence[Document], now: datetime) -> Iterator[list[str]]:
    """Plans for people. If several are under way, first how they follow each other."""
    under_way = [one for one in plans if is_open(one)]
    if len(under_way) > 1:
        roots = [under_way[0]["outgoing"], *(one["incoming"] for one in under_way)]
        way = " -> ".join(root[:8] for root in roots)
        yield [f"{len(under_way)} rotations are under way, oldest first; the root goes {way}"]
    for one in plans:
        yield lines(one, now)


def outlook(one: Document) -> str:
    """What is said before a rotation is watched: how long that takes, and what ends it."""
    life = rough(timedelta(seconds=one["session_seconds"]))
    takes = f"it takes at least {life} from when the new root signs (rotation.session_life); " if life != "0s" else ""
    return f"{takes}Ctrl-C stops only the showing, and --detach shows nothing: it goes on by itself"


def missed(began: Document, ended: Document) -> str:
    """Of a rotation that was followed: how it ended otherwise than it was begun; "" if it did not."""
    if ended["phase"] == "abandoned":
        return f"the rotation {ended['id']} was abandoned: root {began['outgoing']} signs as before"
    if ended["rolled_back"] != began["rolled_back"]:
        return f"the rotation {ended['id']} was taken back: root {ended['incoming']} signs"
    return ""


def is_open(one: Document) -> bool:
    return one["phase"] not in ("done", "abandoned")


def _behind(one: pb.Behind) -> Document:
    return {
        "node": one.node,
        "client": one.client,
        "standing": one.standing,
        "since": time(one.since),
        "bundle_sequence": one.sequence or None,
        "detail": one.detail,
    }


def next_step(plan: pb.RotationPlan) -> str:
    """What comes next, and what it takes."""
    match plan.phase:
        case "distributing" if plan.asks:
            return "decide: wait, or leave them behind: citadel root activate --force"
        case "distributing":
            return "the new root signs, when all have acknowledged" + _by_whom(plan, "citadel root activate")
        case "retiring":
            what = "is revoked" if plan.emergency else "is removed"
            return f"the old root {what}, when nothing in use needs it" + _by_whom(
                plan, f"citadel root remove {plan.outgoing[:8]}"
            )
        case _:
            return ""


def _by_whom(plan: pb.RotationPlan, command: str) -> str:
    return ", by itself" if plan.automatic else f": {command}"


def way_back(plan: pb.RotationPlan) -> str:
    match plan.phase:
        case "distributing":
            return "citadel root abandon"
        case "retiring" if not plan.emergency:
            return "citadel root rollback" + (f" {plan.outgoing[:8]}" if plan.rolled_back else "")
        case _:
            return ""


def lines(one: Document, now: datetime) -> list[str]:
    """A plan for people."""
    gate = one["gate"]
    found = [
        f"rotation      {one['id']}, begun {shown(one['started_at'], now)} by {one['actor']}{_because(one)}",
        f"phase         {one['phase']} since {shown(one['phase_at'], now)}{_marks(one)}",
        f"new root      {one['incoming']}",
        f"old root      {one['outgoing']}",
    ]
    if one["phase"] == "distributing":
        found.append(
            f"acknowledged  {gate['acknowledged']} of {gate['expected']} clients ({gate['connected']} connected)"
        )
    if one["phase"] == "retiring":
        found.append(f"certificates  {gate['certificates_left']} in use chain to the old root")
    if gate["assumed"]:
        found.append(f"assumed       holders of {gate['assumed']} certificates cannot acknowledge")
    if gate["opens_at"]:
        found.append(f"not before    {shown(gate['opens_at'], now)}")
    found += _names("behind", gate["behind"], now)
    found += _names("excused", gate["excused"], now)
    found += [f"left behind   {text}" for text in one["left_behind"]]
    found += [f"waits for     {text}" for text in gate["why"] if not text.startswith(_BEHIND)]
    found += [f"held up by    {text}" for text in one["held"]]
    if one["next"]:
        found.append(f"next          {one['next']}")
    if one["back"]:
        found.append(f"to go back    {one['back']}")
    return [printable(line) for line in found]


def _held(one: Document) -> list[str]:
    return [f"held up by {text}" for text in one["held"]]


def _because(one: Document) -> str:
    return f": {one['reason']}" if one["reason"] else ""


def _marks(one: Document) -> str:
    marks = [name for name in ("emergency", "asks") if one[name]]
    marks += ["rolled back"] if one["rolled_back"] else []
    marks += ["planned"] if one["planned"] else []
    marks += [] if one["automatic"] else ["step by step"]
    return f" ({', '.join(marks)})" if marks else ""


def _names(title: str, behind: list[Any], now: datetime) -> list[str]:
    found = []
    for one in behind[:_MOST_NAMES]:
        holds = f"holds bundle {one['bundle_sequence']}" if one["bundle_sequence"] else "holds no bundle of ours"
        detail = f": {one['detail']}" if one["detail"] else ""
        found.append(
            f"{title:<13} {one['client']}  {one['standing']} since {shown(one['since'], now)}, {holds}{detail}"
        )
    if len(behind) > _MOST_NAMES:
        found.append(f"{title:<13} and {len(behind) - _MOST_NAMES} more: -o json shows all")
    return found


def progress(one: Document) -> str:
    """One line that changes only when something happened: for those who are not at a terminal."""
    gate = one["gate"]
    match one["phase"]:
        case "distributing":
            behind = ", ".join(f"{b['client']} {b['standing']}" for b in gate["behind"][:5])
            text = f"distributing: {gate['acknowledged']} of {gate['expected']} clients acknowledged"
            first = [f"waits for {behind}"] if behind else []
            others = [*(why for why in gate["why"] if not why.startswith(_BEHIND)), *_held(one)]
            return "; ".join([text, *first, *others])
        case "retiring":
            text = f"retiring: {gate['certificates_left']} certificates in use chain to the old root"
            return "; ".join([text, *(why for why in gate["why"] if "chain to it" not in why), *_held(one)])
        case phase:
            return str(phase)
