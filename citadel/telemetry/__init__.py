"""What this process tells of itself: its log, its metrics, its health. None of them ever tells a secret."""

from citadel.telemetry.health import Finding, Health, HealthMeter, HealthReport, Severity
from citadel.telemetry.logging import configure
from citadel.telemetry.metrics import CONTENT_TYPE, Metrics
from citadel.telemetry.systemd import Systemd

__all__ = [
    "CONTENT_TYPE",
    "Finding",
    "Health",
    "HealthMeter",
    "HealthReport",
    "Metrics",
    "Severity",
    "Systemd",
    "configure",
]
