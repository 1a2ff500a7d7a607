"""Health: live, ready, and why not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from citadel.errors import InvalidInput, Unavailable
from citadel.telemetry import Health, Severity
from tests.support.clock import ManualClock


class Part:
    """Something that can be ill."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: Exception | None = None
        self.hang = False
        self.stubborn = False

    async def look(self) -> None:
        self.looks += 1
        while self.hang:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        if self.error:
            raise self.error


def ill() -> Part:
    part = Part()
    part.error = Unavailable("the database does not answer", mend="start it")
    return part


async def test_all_is_well_when_every_check_is() -> None:
    health = Health(ManualClock())
    health.add("store", Part().look)
    report = await health.look()
    assert (report.live, report.ready, report.reasons) == (True, True, ())


@pytest.mark.parametrize(
    ("severity", "live", "ready"),
    [(Severity.FATAL, False, False), (Severity.UNREADY, True, False), (Severity.WARNING, True, True)],
)
async def test_what_follows_from_a_failing_check_is_its_severity(severity: Severity, live: bool, ready: bool) -> None:
    health = Health(ManualClock())
    health.add("clock", Part().look)
    health.add("store", ill().look, severity=severity)
    report = await health.look()
    assert (report.live, report.ready) == (live, ready)
    assert report.reasons == ("store: the database does not answer; start it (since 2026-11-23T12:00:00Z)",)


async def test_since_is_when_it_began_and_not_when_it_was_last_seen() -> None:
    clock, part = ManualClock(), ill()
    health = Health(clock)
    health.add("store", part.look)
    began = (await health.look()).findings[0].since
    clock.advance(timedelta(minutes=5))
    assert (await health.look()).findings[0].since == began
    part.error = None
    clock.advance(timedelta(minutes=5))
    [well] = (await health.look()).findings
    assert (well.ok, well.since) == (True, began + timedelta(minutes=10))


async def test_a_check_that_hangs_is_said_to_hang_and_is_not_started_again() -> None:
    clock, part = ManualClock(), Part()
    part.hang = part.stubborn = True
    health = Health(clock)
    health.add("vault", part.look, timeout=timedelta(milliseconds=20))
    for _ in range(3):
        report = await health.look()
        assert report.findings[0].reason == "the check did not end within 0.02 s"
        clock.advance(timedelta(seconds=5))
    assert part.looks == 1
    part.hang = False
    await health.close()


async def test_a_check_that_hung_is_well_once_it_ends() -> None:
    clock, part = ManualClock(), Part()
    gate = asyncio.Event()

    async def look() -> None:
        await gate.wait()
        await part.look()

    health = Health(clock)
    health.add("vault", look, timeout=timedelta(milliseconds=20))
    assert not (await health.look()).ready
    gate.set()
    clock.advance(timedelta(seconds=5))
    assert (await health.look()).ready


async def test_one_that_hangs_does_not_hide_the_others() -> None:
    hung, broken = Part(), Part()
    hung.hang = True
    broken.error = ZeroDivisionError("detail that is nobody's business")
    health = Health(ManualClock())
    health.add("vault", hung.look, timeout=timedelta(milliseconds=20))
    health.add("ca", broken.look)
    health.add("store", Part().look)
    report = await health.look()
    assert [finding.ok for finding in report.findings] == [False, False, True]
    assert report.findings[1].reason == "the check failed: ZeroDivisionError; the log has the rest"
    await health.close()


async def test_who_asks_often_costs_one_look() -> None:
    clock, part = ManualClock(), Part()
    health = Health(clock)
    health.add("store", part.look)
    await asyncio.gather(*(health.look() for _ in range(50)))
    assert part.looks == 1
    clock.advance(timedelta(seconds=1))
    await health.look()
    assert part.looks == 2


def test_two_checks_of_one_name_are_refused() -> None:
    health = Health(ManualClock())
    health.add("store", Part().look)
    with pytest.raises(InvalidInput, match="two health checks named store"):
        health.add("store", Part().look)
