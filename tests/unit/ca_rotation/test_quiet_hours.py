"""Quiet hours: by the clock on the wall, past midnight, and across changes of summer time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from citadel.errors import InvalidInput
from citadel.quiet_hours import QuietHours, QuietRange, time_zone

WEEKDAYS = "Mon-Fri 08:00-18:00"
NIGHTS = "22:00-06:00"


def quiet(*ranges: str, zone: str = "UTC") -> QuietHours:
    return QuietHours(tuple(map(QuietRange.parse, ranges)), time_zone(zone))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (quiet(), "2026-11-24 09:00", "2026-11-24 09:00"),
        (quiet(WEEKDAYS), "2026-11-24 07:59:59", "2026-11-24 07:59:59"),
        (quiet(WEEKDAYS), "2026-11-24 08:00", "2026-11-24 18:00"),
        (quiet(WEEKDAYS), "2026-11-24 17:59:59", "2026-11-24 18:00"),
        (quiet(WEEKDAYS), "2026-11-28 12:00", "2026-11-28 12:00"),  # a Saturday
        (quiet(NIGHTS), "2026-11-24 23:00", "2026-11-25 06:00"),
        (quiet(NIGHTS), "2026-11-24 05:59", "2026-11-24 06:00"),
        (quiet("Sun 22:00-06:00"), "2026-11-23 05:00", "2026-11-23 06:00"),  # a Monday: it began on Sunday
        (quiet("Fri-Mon 00:00-24:00"), "2026-11-27 10:00", "2026-12-01 00:00"),
        (quiet(WEEKDAYS, "Tue 18:00-20:00", "Tue 20:00-21:00"), "2026-11-24 10:00", "2026-11-24 21:00"),
        (quiet(WEEKDAYS, zone="Europe/Berlin"), "2026-11-24 07:30", "2026-11-24 17:00"),
        (quiet("00:00-03:30", zone="Europe/Berlin"), "2026-03-28 23:30", "2026-03-29 01:30"),  # an hour is missing
        (quiet("00:00-03:30", zone="Europe/Berlin"), "2026-10-24 22:30", "2026-10-25 02:30"),  # one comes twice
    ],
)
def test_it_may_begin_when_no_quiet_hours_are_in_force(hours: QuietHours, now: str, opens: str) -> None:
    assert hours.open_from(at(now)) == at(opens)
    assert hours.until(at(now)) == (None if now == opens else at(opens))


def test_hours_that_are_always_quiet_leave_no_moment() -> None:
    always = quiet("Mon-Fri 00:00-24:00", "Sat,Sun 00:00-12:00", "Sat,Sun 12:00-24:00")
    assert always.always
    assert always.open_from(at("2026-11-24 09:00")) is None
    assert quiet("00:00-23:59").open_minutes == 7


@pytest.mark.parametrize(
    "text",
    ["", "8-18", "Mon 08:00", "Mon-Fri 08:00-08:00", "24:00-06:00", "Foo 08:00-18:00", "08:61-09:00",
     "Mon- 08:00-09:00", "25:00-26:00", "Mon,,Tue 08:00-09:00", "08:00-18:00 Mon", "Mon-Fri  08:00-18:00"],
)  # fmt: skip
def test_what_are_no_quiet_hours_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(InvalidInput, match="are no quiet hours"):
        QuietRange.parse(text)


@pytest.mark.parametrize("text", ["mon-fri 08:00-18:00", "Sat,Sun 00:00-24:00", "22:00-06:00", "Fri-Mon 01:00-02:00"])
def test_they_are_written_as_they_are_read(text: str) -> None:
    found = QuietRange.parse(text)
    assert QuietRange.parse(str(found)) == found


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../../etc/passwd", "/etc/passwd", "\0"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="there is no time zone"):
        time_zone(name)
