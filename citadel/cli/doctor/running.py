"""The doctor asks the running Citadel: its own checks, its jobs, and how long its authorities last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from citadel import __version__
from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.client import connect
from citadel.cli.doctor.findings import Finding, expiry, fail, ok, warn
from citadel.cli.documents import moment

_MENDS = {
    "root": "plan a new root now: everybody has to learn it before the old one ends",
    "issuing": "its renewal is overdue: see the job renew-ca in 'citadel status', and the log",
}


def running(socket: Path, now: datetime) -> Iterator[Finding]:
    """What the Citadel behind `socket` says of itself. Raises what a call raises."""
    with connect(None, socket) as client:
        status = client.call(client.admin.GetStatus, admin.GetStatusRequest())
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
    yield from _identities(status, now)


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
