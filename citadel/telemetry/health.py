"""Health: what is well with this process and what is not, why, and since when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

import structlog

from citadel.clock import Clock
from citadel.errors import CitadelError, InvalidInput

_log = structlog.get_logger("citadel.health")

Look = Callable[[], Awaitable[None]]
"""Returns if all is well; raises CitadelError, whose sentence is the reason, if not."""


class Severity(Enum):
    """What follows from a check that fails."""

    FATAL = "fatal"  # neither live nor ready: only a restart helps
    UNREADY = "unready"  # live, but not ready: send the work elsewhere until it is over
    WARNING = "warning"  # it works, but somebody should look


class HealthMeter(Protocol):
    """Shows checks. Implementation: telemetry.metrics. Never blocks, never raises."""

    def health_check(self, name: str, ok: bool) -> None: ...


class NoMeter:
    """Shows nothing."""

    def health_check(self, name: str, ok: bool) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `since` is when it began to be so; `reason` is empty if all is well."""

    name: str
    ok: bool
    severity: Severity
    since: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HealthReport:
    findings: tuple[Finding, ...]

    @property
    def live(self) -> bool:
        return not any(f.severity is Severity.FATAL for f in self.failing)

    @property
    def ready(self) -> bool:
        return not any(f.severity is not Severity.WARNING for f in self.failing)

    @property
    def failing(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What fails, in the form `store: the database does not answer (since 2026-11-23T12:00:00Z)`."""
        return tuple(f"{f.name}: {f.reason} (since {f.since:%Y-%m-%dT%H:%M:%SZ})" for f in self.failing)


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    look: Look
    severity: Severity
    timeout: timedelta


class Health:
    """The checks of this process. A result is used again for `keep`, so that who asks often costs nothing."""

    def __init__(
        self, clock: Clock, *, keep: timedelta = timedelta(seconds=1), meter: HealthMeter | None = None
    ) -> None:
        self._clock = clock
        self._keep = keep.total_seconds()
        self._meter = meter or NoMeter()
        self._checks: dict[str, _Check] = {}
        self._found: dict[str, Finding] = {}
        self._hanging: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._looked_at: float | None = None

    def add(
        self,
        name: str,
        look: Look,
        *,
        severity: Severity = Severity.UNREADY,
        timeout: timedelta = timedelta(seconds=2),
    ) -> None:
        """Add a check. Raises InvalidInput if there is one of that name."""
        if name in self._checks:
            raise InvalidInput(f"there are two health checks named {name}")
        self._checks[name] = _Check(name, look, severity, timeout)
        self._looked_at = None

    async def look(self) -> HealthReport:
        """Carry out all checks at once, none for longer than its timeout. Many callers at once share one round."""
        async with self._turn:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= self._keep:
                reasons = await asyncio.gather(*(self._reason(check) for check in self._checks.values()))
                for check, reason in zip(list(self._checks.values()), reasons, strict=True):
                    self._note(check, reason)
                self._looked_at = self._clock.monotonic()
            return HealthReport(tuple(self._found[name] for name in self._checks if name in self._found))

    async def close(self) -> None:
        """Cancel checks that still hang."""
        hanging = list(self._hanging.values())
        for task in hanging:
            task.cancel()
        if hanging:
            await asyncio.wait(hanging, timeout=1)

    async def _reason(self, check: _Check) -> str:
        """Why the check fails; empty if it does not."""
        task = self._hanging.get(check.name)  # one that hangs is not started a second time
        if task is None:
            task = asyncio.create_task(_carried_out(check.look), name=f"health check {check.name}")
            self._hanging[check.name] = task
        done, _ = await asyncio.wait([task], timeout=check.timeout.total_seconds())
        if not done:
            return f"the check did not end within {check.timeout.total_seconds():g} s"
        del self._hanging[check.name]
        try:
            task.result()
        except CitadelError as error:
            return error.sentence()
        except asyncio.CancelledError:
            return "the check was cancelled"
        except Exception as error:  # a defect in the check is no proof of health
            _log.error("a health check failed", check=check.name, exc_info=error)
            return f"the check failed: {type(error).__name__}; the log has the rest"
        return ""

    def _note(self, check: _Check, reason: str) -> None:
        before = self._found.get(check.name)
        since = before.since if before and before.ok == (not reason) else self._clock.now()
        found = Finding(check.name, not reason, check.severity, since, reason)
        self._found[check.name] = found
        self._meter.health_check(check.name, found.ok)
        if before is None or before.ok != found.ok:
            if reason:
                _log.warning("a health check fails", check=check.name, severity=check.severity.value, reason=reason)
            elif before is not None:
                _log.info("a health check is well again", check=check.name)


async def _carried_out(look: Look) -> None:
    await look()
