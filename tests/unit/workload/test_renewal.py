"""When a certificate is asked for: half-way, again after a failure, and whatever the clock does."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.workload.renewal import Moment, Renewal

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(seconds: float = 0, *, jumped: timedelta = timedelta(0)) -> Moment:
    """So many seconds after the beginning, by a wall clock that was set by `jumped` meanwhile."""
    return Moment(T0 + timedelta(seconds=seconds) + jumped, 1000 + seconds)


def held(life: timedelta = HOUR, chance: float = 0.5) -> Renewal:
    renewal = Renewal()
    renewal.asked()
    assert renewal.obtained(at(), T0 + life, chance)
    return renewal


def test_the_first_one_is_asked_for_at_once_and_only_once() -> None:
    renewal = Renewal()
    assert renewal.seconds_left(at()) <= 0
    renewal.asked()
    assert renewal.seconds_left(at()) == math.inf


@pytest.mark.parametrize(("chance", "share"), [(0, 0.45), (0.5, 0.5), (1, 0.55)])
def test_it_is_renewed_half_way_through_its_life_give_or_take_a_little(chance: float, share: float) -> None:
    renewal = held(HOUR, chance)
    assert renewal.renew_at == T0 + share * HOUR
    assert renewal.seconds_left(at(600)) == pytest.approx(share * 3600 - 600)


def test_after_failures_it_waits_longer_each_time_but_never_long() -> None:
    renewal = held()
    delays = []
    for _ in range(20):
        renewal.asked()
        renewal.failed(at(2000), 0.5)
        delays.append(renewal.seconds_left(at(2000)))
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert max(delays) == 15.0
    first = Renewal()
    for _ in range(20):
        first.asked()
        first.failed(at(), 0.5)
    assert first.seconds_left(at()) == 3.0  # somebody waits


def test_a_clock_that_jumps_past_the_end_makes_it_due_at_once() -> None:
    assert held().seconds_left(at(1, jumped=timedelta(days=2))) <= 0


def test_a_clock_that_goes_back_makes_it_due_once_and_not_for_ever() -> None:
    renewal = held()
    yesterday = -timedelta(days=1)
    assert renewal.seconds_left(at(5, jumped=yesterday)) <= 0  # it is not valid yet, for peers with this clock
    renewal.asked()
    renewal.obtained(at(5, jumped=yesterday), T0 + yesterday + HOUR, 0.5)
    assert renewal.seconds_left(at(6, jumped=yesterday)) > 1000


def test_a_clock_that_is_corrected_by_a_moment_changes_nothing() -> None:
    assert held().seconds_left(at(1, jumped=timedelta(seconds=-1.5))) > 1000


@pytest.mark.parametrize("jumped", [timedelta(days=-1), timedelta(days=1)])
def test_a_retry_does_not_depend_on_the_clock_that_jumps(jumped: timedelta) -> None:
    renewal = held()
    renewal.asked()
    renewal.failed(at(2000), 0.5)
    assert renewal.seconds_left(at(2000, jumped=jumped)) == pytest.approx(0.2)


def test_a_changed_entry_makes_it_due_at_once_and_what_is_on_its_way_worthless() -> None:
    renewal = held()
    renewal.changed()
    assert renewal.seconds_left(at(1)) <= 0
    renewal.asked()
    renewal.changed()
    assert renewal.seconds_left(at(1)) == math.inf  # one at a time
    assert not renewal.obtained(at(2), T0 + HOUR, 0.5)
    assert renewal.seconds_left(at(2)) <= 0


_events = st.lists(
    st.tuples(
        st.sampled_from(["obtained", "failed", "changed", "jump", "wait"]),
        st.floats(0, 1),
        st.integers(-200_000, 200_000),
    ),
    max_size=40,
)


@given(_events)
def test_whatever_happens_it_is_asked_for_within_a_bounded_time(events: list[tuple[str, float, int]]) -> None:
    """Never is it forgotten: from any state, it is due within half a life and a tenth, or a retry's delay."""
    renewal, seconds, jumped = Renewal(), 0.0, timedelta(0)
    for what, chance, number in events:
        now = at(seconds, jumped=jumped)
        match what:
            case "obtained" | "failed" if renewal.seconds_left(now) <= 0:
                renewal.asked()
                if what == "obtained":
                    renewal.obtained(now, now.wall + HOUR, chance)
                else:
                    renewal.failed(now, chance)
            case "changed":
                renewal.changed()
            case "jump":
                jumped += timedelta(seconds=number)
            case "wait":
                seconds += abs(number) / 100
    assert renewal.seconds_left(at(seconds, jumped=jumped)) <= 0.55 * 3600 + 2


def test_what_is_to_be_replaced_early_is_never_put_off() -> None:
    renewal = held(HOUR)
    renewal.bring_forward(T0 + HOUR)
    assert renewal.seconds_left(at()) == 1800
    renewal.bring_forward(T0 + timedelta(seconds=5))
    assert renewal.seconds_left(at()) == 5
