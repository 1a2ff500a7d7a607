"""Metrics: they implement the rooms' meters, and read as Prometheus expects."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from citadel.ca.ports import IssuanceMeter
from citadel.jobs import JobMeter
from citadel.telemetry import HealthMeter, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found: float | None = metrics.registry.get_sample_value(f"citadel_{name}", labels)
    return found


def test_they_are_the_meters_that_the_rooms_ask_for(metrics: Metrics) -> None:
    issuance: IssuanceMeter = metrics
    jobs: JobMeter = metrics
    health: HealthMeter = metrics
    issuance.issuance("issued", 0.003)
    issuance.issuance("refused", 0.001)
    jobs.job_run("prune", True, 1.5)
    jobs.job_run("prune", False, 0.5)
    health.health_check("store", False)
    assert value(metrics, "issuances_total", result="issued") == 1
    assert value(metrics, "issuance_seconds_bucket", result="issued", le="0.005") == 1
    assert value(metrics, "issuance_seconds_bucket", result="issued", le="0.0025") == 0
    assert value(metrics, "job_runs_total", job="prune", outcome="failed") == 1
    assert value(metrics, "job_seconds_sum", job="prune") == 2
    assert (value(metrics, "job_last_success_timestamp_seconds", job="prune") or 0) > 1_700_000_000
    assert value(metrics, "health_check", check="store") == 0


def test_streams_are_counted_up_and_down(metrics: Metrics) -> None:
    metrics.stream_opened("StreamSecrets")
    metrics.stream_opened("StreamSecrets")
    metrics.stream_closed("StreamSecrets")
    assert value(metrics, "sds_streams", method="StreamSecrets") == 1
    assert value(metrics, "sds_streams_opened_total", method="StreamSecrets") == 2


def test_an_expiry_is_shown_until_there_is_none(metrics: Metrics) -> None:
    metrics.expires("leaf", None)
    metrics.expires("leaf", datetime(2026, 11, 23, tzinfo=UTC))
    assert value(metrics, "not_after_timestamp_seconds", what="leaf") == 1795392000
    metrics.expires("leaf", None)
    assert value(metrics, "not_after_timestamp_seconds", what="leaf") is None


def test_a_state_that_no_authority_is_in_any_more_is_not_shown(metrics: Metrics) -> None:
    metrics.authorities({("root", "active"): 1, ("issuing", "retiring"): 2})
    metrics.authorities({("root", "active"): 1})
    assert value(metrics, "authorities", kind="root", state="active") == 1
    assert value(metrics, "authorities", kind="issuing", state="retiring") is None


def test_prometheus_can_read_them_and_knows_what_runs(metrics: Metrics) -> None:
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert families["citadel_build_info"].samples[0].labels["version"] == "1.2.3"
    assert "process_open_fds" in families
    assert all(family.documentation for name, family in families.items() if name.startswith("citadel_"))


def test_two_of_them_in_one_process_do_not_mix(metrics: Metrics) -> None:
    metrics.issuance("issued", 0.1)
    assert value(Metrics("1.2.3"), "issuances_total", result="issued") is None


def test_the_metrics_in_the_documentation_are_current(metrics: Metrics) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert metrics.reference() in page, "run scripts/generate-docs"
