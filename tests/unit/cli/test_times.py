from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from citadel.cli.times import both, iso, relative, rough

NOW = datetime(2026, 11, 23, 19, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=59), "in 59s"),
        (timedelta(minutes=59, seconds=30), "in 59m30s"),
        (timedelta(hours=-3), "3h ago"),
        (timedelta(days=3, hours=4, minutes=5), "in 3d4h"),
        (timedelta(days=3, minutes=5), "in 3d"),
        (timedelta(days=-3650), "10y ago"),
        (timedelta(days=400), "in 1y35d"),
        (timedelta(milliseconds=300), "now"),
    ],
)
def test_how_far_away_is_told_in_two_units(away: timedelta, text: str) -> None:
    assert relative(NOW + away, NOW) == text


def test_people_get_the_moment_and_the_distance_and_programs_the_moment() -> None:
    moment = NOW + timedelta(minutes=5)
    assert both(moment, NOW) == "2026-11-23 19:05:00Z (in 5m)"
    assert both(None, NOW) == "-"
    assert iso(moment) == "2026-11-23T19:05:00Z"
    assert iso(None) is None


def test_other_zones_are_shown_as_utc() -> None:
    moment = datetime(2026, 11, 23, 21, 5, tzinfo=timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-11-23T19:05:00Z"


def test_nothing_is_no_seconds() -> None:
    assert rough(timedelta(0)) == "0s"
