"""Quiet hours: when of the week nothing is begun that could wait, by the clock on the wall of a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NoReturn
from zoneinfo import ZoneInfo

from citadel.errors import InvalidInput

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY, _WEEK = 24 * 60, 7 * 24 * 60  # minutes
_RANGE = re.compile(r"(?:(?P<days>[A-Za-z,-]+) )?(?P<from>\d{2}:\d{2})-(?P<to>\d{2}:\d{2})", re.ASCII)
_MOST_LOOKS = 1000


@dataclass(frozen=True, slots=True, order=True)
class QuietRange:
    """From a minute of each of some days, for so many minutes. Days are those on which it begins; 0 is Monday."""

    days: tuple[int, ...]
    begins: int
    minutes: int

    @classmethod
    def parse(cls, text: str) -> QuietRange:
        """Read `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`, or `22:00-06:00` (each day, past midnight).

        Raises InvalidInput.
        """
        found = _RANGE.fullmatch(text.strip())
        if found is None:
            _refuse(text)
        begins, ends = _minutes(text, found["from"]), _minutes(text, found["to"])
        if begins in (_DAY, ends):
            _refuse(text, "it has no length")
        days = _days(text, found["days"]) if found["days"] else tuple(range(7))
        return cls(days, begins, (ends - begins) % _DAY or _DAY)

    def left(self, minute: int) -> int:
        """How many minutes it goes on for at a minute of the week; 0: it is not in force."""
        into = ((minute - day * _DAY - self.begins) % _WEEK for day in self.days)
        return max((self.minutes - so_far for so_far in into if so_far < self.minutes), default=0)

    def __str__(self) -> str:
        ends = (self.begins + self.minutes) % _DAY or _DAY
        days = "" if len(self.days) == 7 else ",".join(_DAYS[day].capitalize() for day in self.days) + " "
        return f"{days}{_clock(self.begins)}-{_clock(ends)}"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Ranges, in one time zone. None: no hour is quiet."""

    ranges: tuple[QuietRange, ...] = ()
    zone: tzinfo = UTC

    def until(self, at: datetime) -> datetime | None:
        """When the quiet hours that are in force at `at` end; None: none are."""
        end = self.open_from(at)
        if end is None:
            return datetime.max.replace(tzinfo=UTC)
        return end if end > at else None

    def open_from(self, at: datetime) -> datetime | None:
        """The first moment from `at` on that is not quiet (UTC); None: there never is one."""
        if self.always:
            return None
        for _ in range(_MOST_LOOKS):
            local = at.astimezone(self.zone)
            left = max((r.left(_minute_of_week(local)) for r in self.ranges), default=0)
            if not left:
                return at.astimezone(UTC)
            # By the clock on the wall: across a change of summer time it is another length of time.
            end = local.replace(second=0, microsecond=0, tzinfo=None, fold=0) + timedelta(minutes=left)
            later = end.replace(tzinfo=self.zone).astimezone(UTC)
            at = later if later > at else at + timedelta(minutes=left)
        return None

    @property
    def open_minutes(self) -> int:
        """How many minutes of a week are not quiet."""
        return _open_minutes(self.ranges) if self.ranges else _WEEK

    @property
    def always(self) -> bool:
        return bool(self.ranges) and self.open_minutes == 0


@lru_cache(maxsize=16)  # each look asks for it, and it takes milliseconds
def _open_minutes(ranges: tuple[QuietRange, ...]) -> int:
    return sum(not any(one.left(minute) for one in ranges) for minute in range(_WEEK))


def time_zone(name: str) -> tzinfo:
    """A time zone by its IANA name (`Europe/Berlin`), or `UTC`. Raises InvalidInput."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such zone, or no name of one
        raise InvalidInput(f"there is no time zone {name[:80]!r}; expected a name such as Europe/Berlin") from None


def _minute_of_week(local: datetime) -> int:
    return local.weekday() * _DAY + local.hour * 60 + local.minute


def _minutes(text: str, clock: str) -> int:
    hours, minutes = int(clock[:2]), int(clock[3:])
    if minutes > 59 or hours * 60 + minutes > _DAY:
        _refuse(text, f"there is no {clock}")
    return hours * 60 + minutes


def _days(text: str, written: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in written.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            _refuse(text, f"{part!r} is no day")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return tuple(sorted(found))


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _refuse(text: str, why: str = "") -> NoReturn:
    raise InvalidInput(
        f"{text[:80]!r} are no quiet hours{f': {why}' if why else ''}; "
        "write them as Mon-Fri 08:00-18:00, Sat,Sun 00:00-24:00, or 22:00-06:00"
    )
