"""The doctor looks at the machine: its clock, and how many files a process may open."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from citadel.cli.doctor.findings import Finding, fail, ok, skip, warn
from citadel.config import Settings

_RELEASED = datetime(2026, 11, 1, tzinfo=UTC)  # a clock before this release is wrong
_FILES_A_CONNECTION = 4  # two sockets on each side of the relay
_FILES_OF_OUR_OWN = 256
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def clock(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Is it a possible time, does it run with others' clocks, has it jumped back?"""
    shown = f"it is {now:%Y-%m-%d %H:%M:%S} UTC"
    if now < _RELEASED:
        yield fail("clock.time", f"{shown}, which is before this release was made", "set the clock, and keep it by NTP")
    else:
        yield ok("clock.time", shown)
    yield _synchronised()
    newest = _newest(settings.data_dir / "db")
    if newest and newest > now + timedelta(seconds=5):
        yield warn(
            "clock.back",
            f"the database was written at {newest:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: the clock was set back",
            "check the clock; certificates made before may not be valid yet",
        )


def file_limit(settings: Settings, pid: int | None) -> Iterator[Finding]:
    """May a process (a running Citadel's `pid`, else this one) open as many files as the quotas promise?"""
    limit, whose = _limit(pid)
    wanted = settings.sockets.workload.max_connections * _FILES_A_CONNECTION + _FILES_OF_OUR_OWN
    text = f"{whose} may open {limit} files, and sockets.workload.max_connections may need {wanted}"
    if limit >= wanted:
        yield ok("limits.files", text)
    else:
        room = max(limit - _FILES_OF_OUR_OWN, 0) // _FILES_A_CONNECTION
        yield warn(
            "limits.files",
            f"{text}: room for {room} connections",
            "raise it: LimitNOFILE= for systemd, ulimit -n in a shell",
        )


def _limit(pid: int | None) -> tuple[int, str]:
    """The hard limit: Citadel raises its own soft limit to it."""
    if pid is not None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return hard, f"the running Citadel (process {pid})"
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1], "a Citadel started from this shell"


def _synchronised() -> Finding:
    try:
        buffer = ctypes.create_string_buffer(512)  # struct timex, zeroed: read only (modes = 0)
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return skip("clock.sync", "this system does not say whether its clock is synchronised")
    if state < 0:
        return skip("clock.sync", "the kernel does not say whether its clock is synchronised")
    if state == _TIME_ERROR:
        return warn("clock.sync", "the clock is not synchronised", "run an NTP client: chrony or systemd-timesyncd")
    return ok("clock.sync", "the clock is synchronised")


def _newest(folder: Path) -> datetime | None:
    try:
        times = [path.stat().st_mtime for path in folder.iterdir()]
    except OSError:
        return None
    return datetime.fromtimestamp(max(times), UTC) if times else None
