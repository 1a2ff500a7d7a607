"""What the doctor finds: one sentence a check, and how to mend what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from citadel.cli.times import both
from citadel.errors import CitadelError

_SOON = timedelta(days=730)


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, and should be looked at
    FAIL = "fail"  # does not work, or is not safe
    SKIP = "skip"  # could not be checked, or does not apply


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `mend` says what to do about it; empty where nothing is to be done."""

    check: str  # `area.what`, stable
    level: Level
    message: str
    mend: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check, Level.OK, message)


def warn(check: str, message: str, mend: str) -> Finding:
    return Finding(check, Level.WARN, message, mend)


def fail(check: str, message: str, mend: str) -> Finding:
    return Finding(check, Level.FAIL, message, mend)


def skip(check: str, message: str) -> Finding:
    return Finding(check, Level.SKIP, message)


def of_error(check: str, error: CitadelError) -> Finding:
    return fail(check, " ".join(error.message.split()), error.mend or "see docs/operations.md")


Check = Callable[[], Iterator[Finding]]


def examine(name: str, check: Check) -> list[Finding]:
    """Run one group of checks. One that stumbles becomes a finding: the doctor always finishes his round."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except CitadelError as error:
        found.append(of_error(name, error))
    except OSError as error:
        found.append(fail(name, f"{error.strerror} ({error.filename})", "see whether this user may do that"))
    return found


def expiry(
    check: str, what: str, validity: tuple[datetime, datetime], now: datetime, *, mend: str = "replace it"
) -> Finding:
    """How long something is still valid (from, until). Its last quarter is pointed out, if that is within two years."""
    not_before, not_after = validity
    if now < not_before:
        return fail(check, f"{what} is not valid before {both(not_before, now)}", "check the clock")
    if not_after <= now:
        return fail(check, f"{what} expired {both(not_after, now)}", mend)
    text = f"{what} expires {both(not_after, now)}"
    if not_after - now < min((not_after - not_before) / 4, _SOON):
        return warn(check, text, mend)
    return ok(check, text)
