"""The decision log of a server: as it is configured, and whether it can be written."""

from __future__ import annotations

from citadel.authz.decision_log import DecisionLog, LogFiles, Recorder, Share
from citadel.config import Settings
from citadel.errors import FailedPrecondition
from citadel.telemetry.health import Health, Severity
from citadel.telemetry.metrics import Metrics


def decision_log(settings: Settings, health: Health, meter: Metrics) -> DecisionLog:
    """What the decision point tells; its `run` must be kept going."""
    told = settings.authorization.decision_log
    files = None
    if told.path is not None:
        files = LogFiles(told.path, mode=told.mode, size=int(told.size), files=told.files)
    log = DecisionLog(
        Recorder(told.masked_headers, told.masked_claims), Share(told.allows), files, stream=told.stream, meter=meter
    )

    async def written() -> None:
        if log.fault:
            raise FailedPrecondition(f"decisions are not logged: {log.fault}")

    health.add("decision-log", written, severity=Severity.WARNING)
    return log
