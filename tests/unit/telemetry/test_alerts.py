"""The alert rules fire when they should and not else, on metrics as they are scraped; each leads to its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from citadel.telemetry import Metrics
from tests.support.alerts import Scrape, fires

HOME = Path(__file__).parents[3]
FILE = HOME / "examples" / "prometheus" / "alerts.yaml"
RULES = {r["alert"]: r for group in yaml.safe_load(FILE.read_text())["groups"] for r in group["rules"]}
NOW = datetime.now(UTC)
QUIET: dict[str, int] = {}


def ends(what: Any, days: float) -> Callable[[Metrics], None]:
    return lambda m: m.expires(what, NOW + timedelta(days=days))


def stands(seconds: float, *, laggards: int = 0, phase: str = "distributing", asks: bool = False) -> Any:
    behind = {"silent": laggards} if laggards else QUIET
    return lambda m: m.rotation({phase: seconds}, behind, leaves=0, asks=asks)


def vault(*, up: bool = True, minutes: float | None = None) -> Callable[[Metrics], None]:
    token_ends = None if minutes is None else NOW + timedelta(minutes=minutes)
    return lambda m: m.vault(up=up, sealed=False, standby=False, token_ends=token_ends)


def held(metrics: Metrics) -> None:
    metrics.rotation({"distributing": 5}, QUIET, leaves=0, asks=False, held=True)


def due(days_ago: float, waits: str) -> Callable[[Metrics], None]:
    return lambda m: m.planned(NOW - timedelta(days=days_ago), waits)


def well(metrics: Metrics) -> None:
    for what in ("root", "issuing_ca", "leaf"):
        metrics.expires(what, NOW + timedelta(days=3650))
    metrics.rotation({}, QUIET, leaves=0, asks=False)
    metrics.planned(None, "")
    metrics.job_run("renew-ca", True, 0.1)
    metrics.health_check("store", True)
    metrics.response("ack")


@pytest.mark.parametrize(
    ("happens", "alerts"),
    [
        (well, set()),
        (ends("root", 181), set()),
        (ends("root", 179), {"CitadelRootEndsSoon"}),
        (ends("root", 29), {"CitadelRootEndsSoon", "CitadelRootEnds"}),
        (ends("issuing_ca", 1.1), set()),
        (ends("issuing_ca", 0.9), {"CitadelIssuingCaEnds"}),
        (ends("leaf", -0.01), {"CitadelLeafEnded"}),
        (stands(899, laggards=3), set()),
        (stands(901, laggards=0), set()),
        (stands(901, laggards=3), {"CitadelRotationLaggards"}),
        (stands(2 * 86400 + 1, phase="retiring"), {"CitadelRotationStuck"}),
        (stands(61, laggards=1, asks=True), {"CitadelEmergencyAsks"}),
        (vault(), set()),
        (vault(up=False), {"CitadelVaultDown"}),
        (lambda m: m.vault_findings({"issuer-revoked": 1}), {"CitadelVaultChanged"}),
        (lambda m: [m.vault_findings(one) for one in ({"new-issuer": 1}, {})], set()),
        (vault(minutes=3), set()),
        (vault(minutes=1), {"CitadelVaultTokenEnds"}),
        (held, {"CitadelRotationHeld"}),
        (due(-1, "time"), set()),
        (due(1, "quiet-hours"), set()),
        (due(1, "approval"), {"CitadelPlannedRotationWaits"}),
        (due(1, "another-root"), {"CitadelPlannedRotationWaits"}),
        (due(8, "check"), {"CitadelPlannedRotationWaits", "CitadelPlannedRotationOverdue"}),
        (due(8, "quiet-hours"), {"CitadelPlannedRotationOverdue"}),
        (lambda m: m.job_run("prune", False, 0.1), {"CitadelJobFails"}),
        (lambda m: m._job_success.labels("renew-ca").set(NOW.timestamp() - 3700), {"CitadelRenewalStuck"}),
        (lambda m: m.health_check("audit-log", False), {"CitadelCheckFails"}),
        (lambda m: m.response("nack"), {"CitadelSecretsRejected"}),
    ],
)
def test_an_alert_fires_when_it_should_and_no_other_does(happens: Callable[[Metrics], None], alerts: set[str]) -> None:
    metrics = Metrics("1")
    well(metrics)
    before = Scrape(NOW.timestamp(), metrics.exposition().decode())
    happens(metrics)
    now = Scrape(NOW.timestamp(), metrics.exposition().decode())
    assert {name for name, rule in RULES.items() if fires(rule["expr"], now, before)} == alerts


def test_they_ask_for_metrics_that_there_are() -> None:
    known = set(re.findall(r"`(citadel_[a-z_]+)`", Metrics("1").reference()))
    asked = {name for rule in RULES.values() for name in re.findall(r"citadel_[a-z_]+", rule["expr"])}
    assert asked <= known


@pytest.mark.parametrize("name", RULES)
def test_each_leads_to_its_section_of_a_runbook(name: str) -> None:
    page, _, section = RULES[name]["annotations"]["runbook"].partition("#")
    text = (HOME / page).read_text()
    if section:
        assert f"## {name}\n" in text
        assert section == name.lower()


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    board = json.loads((HOME / "examples" / "grafana" / "citadel.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known = set(re.findall(r"`(citadel_[a-z_]+)`", Metrics("1").reference()))
    known |= {f"{name}_bucket" for name in known}
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            asked = set(re.findall(r"citadel_[a-z_]+", target["expr"]))
            assert asked, target
            assert asked <= known, panel["title"]
    shown = {name for panel in panels for t in panel["targets"] for name in re.findall(r"citadel_[a-z_]+", t["expr"])}
    for rule in RULES.values():  # who is woken finds on it what the alert is about
        assert set(re.findall(r"citadel_[a-z_]+", rule["expr"])) <= shown, rule["alert"]


def test_prometheus_takes_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    subprocess.run([promtool, "check", "rules", FILE], check=True, capture_output=True)
