"""Moments as people and scripts read them: always UTC, and for people also how far away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_UNITS = ((timedelta(days=365), "y"), (timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m"))


def iso(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with seconds, for JSON: `2026-11-23T19:00:00Z`."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def both(moment: datetime | None, now: datetime, *, none: str = "-") -> str:
    """`2026-11-23 19:00:00Z (in 59m)`; `none` where there is no moment."""
    if moment is None:
        return none
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z ({relative(moment, now)})"


def relative(moment: datetime, now: datetime) -> str:
    """`in 59m`, `3d4h ago`, `now`: the two largest units, rounded down."""
    away = moment - now
    text = rough(abs(away))
    if text == "0s":
        return "now"
    return f"in {text}" if away > timedelta(0) else f"{text} ago"


def rough(length: timedelta) -> str:
    """The two largest units of a length of time: `1h30m`, `9y364d`, `12s`."""
    parts: list[str] = []
    for size, unit in _UNITS:
        count, length = divmod(length, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            return "".join(parts)
    seconds = int(length.total_seconds())
    if seconds or not parts:
        parts.append(f"{seconds}s")
    return "".join(parts)
