"""What the store offers beyond the cores' own ports: clients, job runs, transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

TransactionKind = Literal["read", "issuance", "write"]
TransactionOutcome = Literal["ok", "failed"]


class StoreMeter(Protocol):
    """Counts transactions. Implementation: telemetry.metrics. Never blocks, never raises."""

    def transaction(self, kind: TransactionKind, outcome: TransactionOutcome, seconds: float) -> None:
        """One ended, `seconds` after it was asked for. `failed`: the database did not carry it out. What our own rules
        refused (a missing entry, a used serial) is `ok`: the database did its part."""


class Report(Protocol):
    """What a client said about a resource (workload.upstream.AckReport has the fields and their meaning)."""

    @property
    def at(self) -> datetime: ...
    @property
    def client(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def type_url(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def spiffe_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def serial(self) -> str: ...
    @property
    def authority(self) -> str: ...
    @property
    def not_after(self) -> datetime | None: ...
    @property
    def detail(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ClientHolding:
    """What one client is known to hold of one resource.

    `kind` and `version` are of the newest report. `acked_*`, `sequence`, `serial`, `authority` and `not_after` are of
    the newest acknowledgement: what the client really uses. `nack_detail` is of a rejection newer than that.
    `unanswered_since`: when it was first sent something that it has not answered, however often it came back since.
    """

    node: str
    client: str
    resource: str
    at: datetime
    kind: str
    version: str
    type_url: str
    acked_version: str = ""
    acked_at: datetime | None = None
    nack_detail: str = ""
    spiffe_id: str = ""
    sequence: int = 0
    serial: str = ""
    authority: str = ""
    not_after: datetime | None = None
    unanswered_since: datetime | None = None


ClientKey = tuple[str, str, str]  # node, client, resource


class ClientStore(Protocol):
    """Who holds what. A disconnect and our own restart leave everything in place. Implementation: store.records.
    Contract: tests/contract/test_client_and_job_stores.py."""

    async def record(self, node: str, reports: Sequence[Report]) -> None:
        """Write all of `reports` in one transaction; per client and resource the newest counts. A report `ended` is of
        all that the client held, and final: nothing that comes after it counts. Of those that have ended only the
        newest are kept, a bounded number for each node. `forgotten` deletes what holds nothing that is unexpired."""

    async def all(self) -> list[ClientHolding]: ...

    async def page(self, limit: int, after: ClientKey | None = None) -> list[ClientHolding]:
        """At most `limit`, in the order of their keys, those behind `after`."""

    async def forget(self, before: datetime) -> int:
        """Delete what was last heard of before, and holds nothing that is unexpired, or has ended; how many."""


@dataclass(frozen=True, slots=True)
class JobRun:
    name: str
    started_at: datetime
    finished_at: datetime
    ok: bool
    detail: str = ""


class Run(Protocol):
    """A run of a job as its maker has it (jobs.JobRun, or ours)."""

    @property
    def name(self) -> str: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def finished_at(self) -> datetime: ...
    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...


class JobStore(Protocol):
    """The newest run of each job. Implementation: store.records. Contract: as ClientStore's."""

    async def record(self, run: Run, /) -> None: ...

    async def last(self) -> dict[str, JobRun]:
        """The newest run of each job."""
