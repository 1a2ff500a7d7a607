"""Metrics: what is counted and measured, for Prometheus. Implements the meters that the other rooms ask for.

Every label takes its values from a closed list (outcomes, our own job and check names, the policies in force): no
client can make new series.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from citadel.telemetry.decisions import BUCKETS, Decided, DecisionCounts

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FAST = BUCKETS  # seconds
_SLOW = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)

What = Literal["root", "issuing_ca", "leaf"]
_PHASES = ("distributing", "retiring")
_PLAN_WAITS = ("time", "approval", "quiet-hours", "another-root", "another-rotation", "check")
_STANDINGS = ("silent", "nacked", "gone", "elsewhere")


class Metrics:
    """All metrics of one process, in a registry of their own. Every method is cheap, never blocks and never raises."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._ours: list[tuple[str, str, tuple[str, ...], str]] = []  # name, kind, labels, what it says
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = self._gauge("build_info", "Always 1; the labels say what runs.", "version", "python", "implementation")
        build.labels(version, platform.python_version(), sys.implementation.name).set(1)

        self._issuances = self._counter("issuances", "Requests for certificates that were answered.", "result")
        self._issuance_seconds = self._histogram("issuance_seconds", "From request to certificate.", _FAST, "result")
        self._issuance_pairs: dict[str, tuple[Counter, Histogram]] = {}
        self._expiry = self._gauge(
            "not_after_timestamp_seconds", "When it ends (Unix time): of several, the soonest.", "what"
        )
        self._authorities = self._gauge("authorities", "Authorities, by kind and state.", "kind", "state")

        self._streams = self._gauge("sds_streams", "Streams of secrets that are open.", "method")
        self._streams_opened = self._counter("sds_streams_opened", "Streams of secrets that were opened.", "method")
        self._streams_refused = self._counter("sds_streams_refused", "Streams that were refused.", "reason")
        self._acknowledgements = self._counter(
            "sds_responses", "Resources sent to clients, and their answers: sent, ack, nack.", "kind"
        )
        self._lost_reports = self._counter("sds_reports_lost", "Acknowledgements that were not recorded: queue full.")

        self._attestations = self._counter("attestations", "Callers looked at, by attestor.", "attestor", "outcome")
        self._attestation_seconds = self._histogram(
            "attestation_seconds", "How long an attestor took.", _FAST, "attestor"
        )
        self._renewals = self._counter(
            "svid_renewals",
            "Certificates of workloads: the first of an entry, renewed, and attempts that failed.",
            "outcome",
        )
        self._identities = self._gauge("svid_identities", "Identities whose keys and certificates are held now.")
        self._refused = self._counter("workload_refusals", "Callers turned away by a quota.", "quota")

        self._transactions = self._counter("store_transactions", "Transactions of the store.", "kind", "outcome")
        self._transaction_seconds = self._histogram(
            "store_transaction_seconds", "How long transactions took, waiting included.", _FAST, "kind"
        )
        self._job_runs = self._counter("job_runs", "Runs of jobs.", "job", "outcome")
        self._job_seconds = self._histogram("job_seconds", "How long jobs took.", _SLOW, "job")
        self._job_success = self._gauge("job_last_success_timestamp_seconds", "When it last went well.", "job")
        self._rotation_phase = self._gauge(
            "rotation_phase", "Rotations of the root that are under way, by phase; 0: none is.", "phase"
        )
        self._rotation_seconds = self._gauge(
            "rotation_phase_seconds", "For how long the rotation that has waited longest is in its phase.", "phase"
        )
        self._rotation_laggards = self._gauge(
            "rotation_laggards",
            "Clients that hold up a rotation, by how they stand towards its bundle.",
            "standing",
        )
        self._rotation_leaves = self._gauge(
            "rotation_reissues_left", "Certificates in use under roots that are to be removed."
        )
        self._rotation_asks = self._gauge("rotation_asks", "1 while an emergency waits for an operator's word.")
        self._rotation_held = self._gauge("rotation_held", "1 while a hook holds up a rotation.")
        self._planned = self._gauge(
            "rotation_planned_timestamp_seconds", "When the root that signs is to be replaced by itself; 0: never."
        )
        self._planned_waits = self._gauge(
            "rotation_planned_waits", "1 for what the next planned rotation waits for.", "what"
        )
        for waits in _PLAN_WAITS:
            self._planned_waits.labels(waits).set(0)
        for phase in _PHASES:
            self._rotation_phase.labels(phase).set(0)
            self._rotation_seconds.labels(phase).set(0)
        for standing in _STANDINGS:
            self._rotation_laggards.labels(standing).set(0)
        self._policy_set = self._gauge("policy_set_documents", "Documents of the set of policies in force.", "version")
        self._policy_loads = self._counter(
            "policy_loads", "Changes of the source of policies: applied, unchanged, held back, failed.", "outcome"
        )
        self.decisions = DecisionCounts()
        self.registry.register(self.decisions)
        self._ours += DecisionCounts.DESCRIBED
        self._logged = self._counter(
            "decision_log",
            "Records of the decision log: written, dropped since too many waited, or failed to be written.",
            "outcome",
            "fate",
        )
        self._workers = self._gauge(
            "authz_workers",
            "Worker processes of ext_authz over TCP: all that there are to be, and those that answer.",
            "which",
        )
        self._worker_ends = self._counter(
            "authz_worker_ends",
            "Workers that had to be started again: ended, silent, too-large, or their reports unreadable.",
            "why",
        )
        self._vault_up = self._gauge("vault_up", "1 while Vault does what Citadel asks, 0 while not.")
        self._vault_sealed = self._gauge("vault_sealed", "1 while the Vault that answers is sealed.")
        self._vault_standby = self._gauge("vault_standby", "1 while the Vault that answers is a standby.")
        self._vault_token = self._gauge("vault_token_not_after_timestamp_seconds", "When the token for Vault ends.")
        self._vault_calls = self._counter("vault_calls", "Calls to Vault: ok, refused, unavailable.", "result")
        self._vault_seconds = self._histogram(
            "vault_call_seconds", "Calls to Vault, retries included.", _FAST, "result"
        )
        self._vault_findings = self._gauge(
            "vault_findings", "What changed in Vault behind our back, and is not mended or approved.", "kind"
        )
        self._vault_kinds: set[str] = set()
        for gauge in (self._vault_up, self._vault_sealed, self._vault_standby, self._vault_token):
            gauge.set(math.nan)  # until there is a Vault
        self._health = self._gauge("health_check", "1 if the check is well, 0 if not.", "check")

    def exposition(self) -> bytes:
        """All of them in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)

    def reference(self) -> str:
        """The metrics of our own as a Markdown table, for docs/operations.md (scripts/generate-docs)."""
        lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
        for name, kind, labels, text in self._ours:
            lines.append(f"| `citadel_{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |")
        return "\n".join(lines) + "\n"

    # --- ca
    def issuance(self, result: str, seconds: float) -> None:
        """ca.ports.IssuanceMeter."""
        pair = self._issuance_pairs.get(result)
        if pair is None:  # looking a label up costs as much as counting
            pair = self._issuances.labels(result), self._issuance_seconds.labels(result)
            self._issuance_pairs[result] = pair
        counter, histogram = pair
        counter.inc()
        histogram.observe(seconds)

    def expires(self, what: What, at: datetime | None) -> None:
        """The root, issuing CA or leaf that ends soonest ends `at`; None: there is none."""
        if at is None:
            self._expiry.remove_by_labels({"what": what})
        else:
            self._expiry.labels(what).set(at.timestamp())

    def authorities(self, counts: dict[tuple[str, str], int]) -> None:
        """How many authorities there are now, by (kind, state)."""
        self._authorities.clear()
        for (kind, state), count in counts.items():
            self._authorities.labels(kind, state).set(count)

    # --- sds
    def stream_opened(self, method: str) -> None:
        """sds.ports.StreamMeter."""
        self._streams.labels(method).inc()
        self._streams_opened.labels(method).inc()

    def stream_closed(self, method: str) -> None:
        self._streams.labels(method).dec()

    def stream_refused(self, reason: str) -> None:
        self._streams_refused.labels(reason).inc()

    def response(self, kind: str) -> None:
        """`sent`, `ack` or `nack`."""
        self._acknowledgements.labels(kind).inc()

    def report_lost(self) -> None:
        self._lost_reports.inc()

    # --- workload: workload.ports.WorkloadMeter
    def attestation(self, attestor: str, outcome: str, seconds: float) -> None:
        self._attestations.labels(attestor, outcome).inc()
        self._attestation_seconds.labels(attestor).observe(seconds)

    def renewal(self, outcome: str) -> None:
        self._renewals.labels(outcome).inc()

    def identities(self, held: int, soonest: datetime | None) -> None:
        self._identities.set(held)
        self.expires("leaf", soonest)

    def refused(self, quota: str) -> None:
        self._refused.labels(quota).inc()

    # --- store
    def transaction(self, kind: str, outcome: str, seconds: float) -> None:
        """store.ports.StoreMeter."""
        self._transactions.labels(kind, outcome).inc()
        self._transaction_seconds.labels(kind).observe(seconds)

    # --- jobs
    def job_run(self, name: str, ok: bool, seconds: float) -> None:
        """jobs.ports.JobMeter."""
        self._job_runs.labels(name, "ok" if ok else "failed").inc()
        self._job_seconds.labels(name).observe(seconds)
        if ok:
            self._job_success.labels(name).set_to_current_time()

    # --- rotation
    def rotation(
        self, phases: Mapping[str, float], laggards: Mapping[str, int], *, leaves: int, asks: bool, held: bool = False
    ) -> None:
        """jobs.ports.RotationMeter."""
        for phase in _PHASES:
            self._rotation_phase.labels(phase).set(1 if phase in phases else 0)
            self._rotation_seconds.labels(phase).set(phases.get(phase, 0))
        for standing in _STANDINGS:
            self._rotation_laggards.labels(standing).set(laggards.get(standing, 0))
        self._rotation_leaves.set(leaves)
        self._rotation_asks.set(1 if asks else 0)
        self._rotation_held.set(1 if held else 0)

    def planned(self, at: datetime | None, waits: str) -> None:
        """jobs.ports.PlanMeter."""
        self._planned.set(at.timestamp() if at else 0)
        for one in _PLAN_WAITS:
            self._planned_waits.labels(one).set(1 if one == waits else 0)

    # --- authz: authz.sources.SourceMeter, authz.doors.DoorMeter
    def policies(self, version: str, documents: int) -> None:
        self.decisions.switched()
        self._policy_set.clear()
        self._policy_set.labels(version).set(documents)

    def policy_load(self, outcome: str) -> None:
        self._policy_loads.labels(outcome).inc()

    def decided(self, door: str, decision: Decided, seconds: float) -> None:
        self.decisions.decided(door, decision, seconds)

    def decision_logged(self, outcome: str, fate: str, count: int = 1) -> None:
        """authz.decision_log.LogMeter."""
        self._logged.labels(outcome, fate).inc(count)

    def workers(self, answering: int, wanted: int) -> None:
        self._workers.labels("all").set(wanted)
        self._workers.labels("answering").set(answering)

    def worker_ended(self, why: str) -> None:
        self._worker_ends.labels(why).inc()

    # --- vault: vault.VaultMeter
    def vault(self, *, up: bool, sealed: bool, standby: bool, token_ends: datetime | None) -> None:
        self._vault_up.set(1 if up else 0)
        self._vault_sealed.set(1 if sealed else 0)
        self._vault_standby.set(1 if standby else 0)
        self._vault_token.set(token_ends.timestamp() if token_ends else math.nan)

    def vault_call(self, result: str, seconds: float) -> None:
        self._vault_calls.labels(result).inc()
        self._vault_seconds.labels(result).observe(seconds)

    def vault_findings(self, counts: Mapping[str, int]) -> None:
        self._vault_kinds |= counts.keys()
        for kind in self._vault_kinds:
            self._vault_findings.labels(kind).set(counts.get(kind, 0))

    # --- health
    def health_check(self, name: str, ok: bool) -> None:
        """health.HealthMeter."""
        self._health.labels(name).set(1 if ok else 0)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._ours.append((f"{name}_total", "counter", labels, text))
        return Counter(f"citadel_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self._ours.append((name, "gauge", labels, text))
        return Gauge(f"citadel_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        self._ours.append((name, "histogram", labels, text))
        return Histogram(f"citadel_{name}", text, labels, buckets=buckets, registry=self.registry)
