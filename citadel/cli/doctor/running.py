"""The doctor asks the running Citadel: its own checks, its jobs, and how long its authorities last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from citadel import __version__
from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import root_follow
from citadel.cli.client import connect
from citadel.cli.doctor.findings import Finding, expiry, fail, ok, warn
from citadel.cli.doctor.rotation import rotations
from citadel.cli.documents import moment, spiffe_id
from citadel.cli.entry_calls import all_entries
from citadel.config import Settings
from citadel.config.settings import AttestorsSettings
from citadel.registry.validate import KNOWN_SELECTORS

_MOST_ENTRIES = 10
_MENDS = {
    "root": "plan a new root now: everybody has to learn it before the old one ends",
    "issuing": "its renewal is overdue: see the job renew-ca in 'citadel status', and the log",
}


def running(settings: Settings, now: datetime) -> Iterator[Finding]:
    """What the Citadel behind the admin socket says of itself. Raises what a call raises."""
    with connect(None, settings.sockets.admin.path) as client:
        status = client.call(client.admin.GetStatus, admin.GetStatusRequest())
        request = admin.ListEntriesRequest(parent_id=status.node_id)
        entries = [] if status.store_error else list(all_entries(client, request))
        plans = None if status.store_error else root_follow.plans(client)
    if status.version == __version__:
        yield ok("running.version", f"Citadel {status.version} runs for {status.trust_domain}")
    else:
        yield warn(
            "running.version",
            f"Citadel {status.version} runs, and this command is {__version__}",
            "restart Citadel to bring the new version into use",
        )
    for check in status.checks:
        name = f"running.{check.name}"
        yield ok(name, "well") if check.ok else fail(name, check.reason, "see the log of the running Citadel")
    for job in status.jobs:
        if not job.ok:
            yield warn("running.jobs", f"the job {job.name} failed: {job.detail}", "see the log of the running Citadel")
    for sentence in status.waiting:
        yield warn("running.waiting", sentence, "see: citadel status")
    for authority in status.authorities:
        if authority.state == "active":
            yield _authority(authority, now)
    if plans is not None:
        yield from rotations(plans, now)
    yield from _identities(status, now)
    yield from unmatched(entries, settings.attestors)


def unmatched(entries: Iterable[admin.EntryDetails], attestors: AttestorsSettings) -> Iterator[Finding]:
    """Entries of this node that no process can match, because nothing here makes one of their selectors."""
    found = []
    for one in entries:
        why = sorted(filter(None, (_never_made(s.type, s.value, attestors) for s in one.entry.selectors)))
        if why:
            found.append(f"no process matches {spiffe_id(one.entry.spiffe_id)} ({one.entry.id}): {', '.join(why)}")
    for sentence in found[:_MOST_ENTRIES]:
        yield warn("running.entries", sentence, "correct the selector, or switch on what makes it: docs/entries.md")
    if len(found) > _MOST_ENTRIES:
        yield warn("running.entries", f"{len(found) - _MOST_ENTRIES} more entries like these", "mend these first")


def _never_made(kind: str, value: str, attestors: AttestorsSettings) -> str:
    """Why no process has this selector, or nothing."""
    if kind not in KNOWN_SELECTORS:
        return f"nothing here makes {kind}:{value}"
    if kind == "unix" and value.startswith(("path:", "sha256:")) and not attestors.unix.discover_path:
        return f"{kind}:{value} needs attestors.unix.discover_path = true"
    if kind in ("systemd", "docker") and not getattr(attestors, kind).enabled:
        return f"{kind}:{value} needs attestors.{kind}.enabled = true"
    return ""


def _authority(authority: admin.Authority, now: datetime) -> Finding:
    newest = authority.certificates[0]
    return expiry(
        f"running.{authority.kind}",
        f"the {authority.kind} authority {authority.skid[:8]}",
        (moment(newest.not_before) or now, moment(newest.not_after) or now),
        now,
        mend=_MENDS.get(authority.kind, "see: citadel ca list"),
    )


def _identities(status: admin.Status, now: datetime) -> Iterator[Finding]:
    """Certificates of workloads here that could not be renewed."""
    for held in status.identities:
        if held.last_error:
            until = datetime.fromtimestamp(held.not_after, UTC)
            text = f"{held.spiffe_id} could not be renewed: {held.last_error}"
            yield (fail if until <= now else warn)("running.identities", text, "see: citadel status, and the log")
