"""The doctor looks at rotations under way: how each stands, who holds it up, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from citadel.cli.doctor.findings import Finding, ok, warn
from citadel.cli.documents import Document, shown

_MOST_NAMES = 3
_BEHIND = "not acknowledged by"  # how a gate begins to name them; they are named here with how they stand


def rotations(plans: Iterable[Document], now: datetime) -> Iterator[Finding]:
    """`plans`: those under way, as `citadel root status -o json` shows them."""
    found = [_finding(plan, now) for plan in plans]
    yield from found or [ok("running.rotation", "no rotation of the root is under way")]


def _finding(plan: Document, now: datetime) -> Finding:
    way = f"root {plan['outgoing'][:8]} -> {plan['incoming'][:8]}"
    since = shown(plan["phase_at"], now)
    text = "; ".join([f"rotation {plan['id']} ({way}) is {plan['phase']} since {since}", *_why(plan)])
    text += f"; next: {plan['next']}" if plan["next"] else ""
    waits_for_people = plan["asks"] or plan["held"] or (plan["gate"]["open"] and not plan["automatic"])
    if plan["gate"]["behind"] or waits_for_people:
        return warn("running.rotation", text, "see: citadel root status, and docs/rotation.md")
    return ok("running.rotation", text)


def _why(plan: Document) -> Iterator[str]:
    gate = plan["gate"]
    behind = gate["behind"]
    if behind:
        named = ", ".join(f"{one['client']} ({one['standing']})" for one in behind[:_MOST_NAMES])
        more = f" and {len(behind) - _MOST_NAMES} more" if len(behind) > _MOST_NAMES else ""
        yield f"waits for {named}{more}"
    yield from (why for why in gate["why"] if not why.startswith(_BEHIND))
    yield from (f"held up by {text}" for text in plan["held"])
