"""Lengths of time as people write them: `30s`, `1h30m`, `7d`, `10y`, or ISO 8601 (`PT30S`, `P7D`)."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?", re.ASCII)
_PART = re.compile(r"(\d+)(ms|[ywdhms])", re.ASCII)
_ISO = re.compile(
    r"P(?:(?P<y>\d+)Y)?(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
LONGEST = timedelta(days=100 * 365)


def parse_duration(text: str) -> timedelta:
    """Read a length of time. A year is 365 days, a day 86,400 s; months have no fixed length and are refused.

    Raises ValueError, saying what is wrong and how it is written.
    """
    written = text.strip()
    seconds = _iso(written.upper()) if written[:1] in ("P", "p") else _short(written.lower())
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than 100 years")
    return timedelta(seconds=seconds)


def _short(text: str) -> float:
    if text == "0":
        return 0
    if text.startswith("-"):
        raise ValueError(f"{text!r} is negative")
    if text.isdecimal():
        raise ValueError(f"{text!r} has no unit; write {text}s for seconds")
    if not text or not _PARTS.fullmatch(text):
        raise ValueError(f"{text!r} is not a length of time; write it as 30s, 10m, 1h30m, 7d or 10y")
    return sum(int(number) * (0.001 if unit == "ms" else _SECONDS[unit]) for number, unit in _PART.findall(text))


def _iso(text: str) -> float:
    match = _ISO.fullmatch(text)
    given = {unit: number for unit, number in match.groupdict().items() if number} if match else {}
    if not given or text.endswith("T"):
        raise ValueError(f"{text!r} is not an ISO 8601 length of time such as PT30S or P7D (months are not taken)")
    return sum(float(number) * _SECONDS[unit] for unit, number in given.items())


def format_duration(length: timedelta) -> str:
    """The short form that `parse_duration` reads back: `1h30m`, `7d`, `10y`; `0s` for nothing. Whole milliseconds."""
    rest = round(length / timedelta(milliseconds=1))
    if rest < 0:
        return "-" + format_duration(-length)
    parts = []
    for unit, seconds in _SECONDS.items():
        if unit == "w" or (unit == "y" and rest % (seconds * 1000)):  # 7d and 400d read better than 1w and 1y35d
            continue
        count, rest = divmod(rest, seconds * 1000)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{rest}ms")
    return "".join(parts) or "0s"
