from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.config.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("7d", 7 * 86400),
        ("2w", 14 * 86400),
        ("10y", 3650 * 86400),
        ("250ms", 0.25),
        ("0", 0),
        (" 5S ", 5),
        ("PT30S", 30),
        ("pt1h30m", 5400),
        ("P7D", 7 * 86400),
        ("P1DT12H", 129600),
        ("PT0.5S", 0.5),
    ],
)
def test_a_length_of_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a length of time"),
        ("-5m", "is negative"),
        ("30", "has no unit; write 30s"),
        ("5 minutes", "is not a length of time"),
        ("30s1h", "is not a length of time"),
        ("1.5h", "is not a length of time"),
        ("P1M", "months are not taken"),
        ("P", "is not an ISO 8601"),
        ("P1DT", "is not an ISO 8601"),
        ("PT", "is not an ISO 8601"),
        ("101y", "longer than 100 years"),
        ("9" * 400 + "s", "longer than 100 years"),
        ("٣s", "is not a length of time"),
    ],
)
def test_what_is_no_length_of_time_is_refused_with_the_way_to_write_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_what_is_written_is_read_back(length: timedelta) -> None:
    whole = timedelta(milliseconds=round(length / timedelta(milliseconds=1)))
    assert parse_duration(format_duration(whole)) == whole


@given(st.text())
def test_any_text_is_a_length_or_an_error_of_ours(text: str) -> None:
    try:
        length = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) <= length <= LONGEST


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (3600, "1h"), (5400, "1h30m"), (7 * 86400, "7d"), (400 * 86400, "400d"), (730 * 86400, "2y")],
)
def test_lengths_are_written_in_the_unit_that_fits(seconds: int, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


def test_what_is_past_is_written_with_a_minus() -> None:
    assert format_duration(timedelta(minutes=-5)) == "-5m"
