"""Durations, parts of a life, quiet hours and time zones."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from citadel.config.durations import format_duration, parse_duration
from citadel.config.values.reading import AS_TEXT, from_text, several, write_texts
from citadel.quiet_hours import QuietRange, time_zone


def _part(value: Any) -> float:
    """A part of a life, in percent (`80%`) or as a number from 0 to 1."""
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(text, bool):
            raise ValueError
        part = float(text.removesuffix("%")) / 100 if isinstance(text, str) and text.endswith("%") else float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a part of a life; write it as 80%") from None
    if not 0 <= part <= 1:
        raise ValueError(f"{value!r} is not a part of a life: it goes from 0% to 100%")
    return part


def _write_part(part: float) -> str:
    return f"{part * 100:g}%"


Duration = Annotated[
    timedelta,
    PlainValidator(from_text(parse_duration, timedelta)),
    PlainSerializer(format_duration, return_type=str),
]
Part = Annotated[float, PlainValidator(_part), PlainSerializer(_write_part, return_type=str)]
Quiet = Annotated[
    tuple[QuietRange, ...],
    PlainValidator(several(QuietRange.parse, "quiet hours", QuietRange)),
    PlainSerializer(write_texts, return_type=list),
]
TimeZone = Annotated[tzinfo, PlainValidator(from_text(time_zone, tzinfo)), AS_TEXT]
