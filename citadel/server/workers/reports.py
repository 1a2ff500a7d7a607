"""What a worker tells its server: that it lives, by which policies, what it decided and counted. Lines of JSON.

They go over a pair of sockets that only the two have. The server reads; what comes is checked, since a worker is the
one that strangers talk to.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from citadel.authz.decision_log import Backlog, Recorder, Share
from citadel.authz.decision_log.log import MOST_WAITING, PER_SECOND
from citadel.authz.decision_point import Ruling
from citadel.errors import InvalidInput
from citadel.telemetry.decisions import DecisionCounts

MOST_BYTES = 8 << 20  # of a line; a record has some hundred bytes, and 200 KiB at the very most
HEARTBEAT_SECONDS = 1.0
_BATCH = 20
_PAUSE = _BATCH / PER_SECOND
_OUTCOMES = frozenset({"allow", "deny"})


@dataclass(frozen=True, slots=True)
class Report:
    answers: bool = False
    """It has begun to."""
    version: str = ""
    """Of the policies by which it decides; empty: it has none yet."""
    callers: int = 0
    """Which edition of the registrations it knows (KnownCallers.edition)."""
    counts: dict[str, Any] = field(default_factory=dict)
    """What it decided since the last report (telemetry.decisions)."""
    records: tuple[dict[str, Any], ...] = ()
    """For the decision log."""
    lost: dict[str, int] = field(default_factory=dict)
    """How many records, by outcome, found no room to wait in."""

    def line(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Report:
        """Raises InvalidInput."""
        try:
            given = json.loads(line)
            report = cls(
                given["answers"] is True,
                str(given["version"]),
                int(given["callers"]),
                dict(given["counts"]),
                tuple(given["records"]),
                {outcome: int(number) for outcome, number in given["lost"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidInput(f"a worker's report cannot be read: {type(error).__name__}") from None
        if not report.lost.keys() <= _OUTCOMES or not all(map(_is_record, report.records)):
            raise InvalidInput("a worker's report has records that are none")
        return report


def _is_record(given: Any) -> bool:
    return isinstance(given, dict) and given.get("outcome") in _OUTCOMES and isinstance(given.get("id"), str)


class Reporter:
    """The worker's end. Contract: decision_point.DecisionObserver. Keep `run` going, and end with `close`."""

    def __init__(
        self,
        link: socket.socket,
        counts: DecisionCounts,
        recorder: Recorder,
        share: Share,
        standing: Callable[[], tuple[bool, str, int]],
        *,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`standing`: whether it answers, and the version of the policies and edition of the registrations of now."""
        self._link = link
        self._counts = counts
        self._recorder = recorder
        self._share = share
        self._standing = standing
        self._backlog = Backlog(most_waiting)
        self._lost: Counter[str] = Counter()
        self._work = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None

    def ruled(self, ruling: Ruling) -> None:
        if not self._share.takes(ruling):
            return
        if lost := self._backlog.add(self._recorder.record(ruling)):
            self._lost[lost] += 1
        self._work.set()

    async def run(self) -> None:
        """Report until cancelled, or until the server has gone: then it returns."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._link)
        gone = asyncio.ensure_future(reader.read())  # it says nothing: this is how its end is seen
        try:
            while not gone.done():
                self._writer.write(self._report().line())
                await self._writer.drain()  # a server that is slow makes records wait, and at last be lost
                await asyncio.sleep(_PAUSE)
                working = asyncio.ensure_future(self._work.wait())
                await asyncio.wait({gone, working}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                working.cancel()
        except ConnectionError:
            return
        finally:
            gone.cancel()

    async def close(self) -> None:
        """Tell the rest."""
        if self._writer is None:
            return
        while len(self._backlog):
            self._writer.write(self._report().line())
        self._writer.write(self._report().line())
        self._writer.close()
        await self._writer.wait_closed()

    def _report(self) -> Report:
        records, lost = tuple(self._backlog.take(_BATCH)), dict(self._lost)
        self._lost.clear()
        if not len(self._backlog):
            self._work.clear()
        return Report(*self._standing(), self._counts.take(), records, lost)
