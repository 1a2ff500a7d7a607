"""The log: one line per event on standard error, ours and that of the libraries, without secrets."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from citadel.telemetry.redact import redact

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "console"]

_FIRST = ("timestamp", "level", "logger", "event")

#: Libraries say little that our own events do not say better. Some, at a lower level, would log what they transport
#: (SQLAlchemy its parameters, hvac's HTTP client its headers), so `debug` does not loosen these.
_LIBRARIES = {
    "aiosqlite": logging.WARNING,
    "alembic": logging.WARNING,
    "apscheduler": logging.ERROR,  # a job that is still running is no news: `status` shows it
    "asyncio": logging.WARNING,
    "docker": logging.WARNING,
    "grpc": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "hvac": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "stamina": logging.WARNING,
    "urllib3": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.ERROR,
    "watchfiles": logging.WARNING,
}


def configure(level: Level = "info", form: Form = "auto", stream: TextIO | None = None) -> None:
    """Send every event to `stream` (standard error unless given). May be called again: for a new level, say.

    `auto` is `console` on a terminal and `json` elsewhere. The one place of this package that changes what the whole
    process shares: the libraries log through the standard library's root logger.
    """
    out = stream or sys.stderr
    lines = form == "json" or (form == "auto" and not out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    rendered: list[Processor] = [redact, _in_order, _renderer(lines, out)]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: _Lines(out, names[0] if names else "citadel"),
        cache_logger_on_first_use=False,  # so that a second call takes effect
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, lowest in _LIBRARIES.items():
        logging.getLogger(name).setLevel(lowest)
    logging.captureWarnings(True)


class _Lines:
    """Writes finished lines. A log that cannot be written (a full disk, a closed pipe) stops nobody."""

    def __init__(self, out: TextIO, name: str) -> None:
        self._out = out
        self.name = name  # structlog's add_logger_name reads it

    def msg(self, line: str) -> None:
        try:
            self._out.write(line + "\n")  # one write: lines of several threads do not mix
            self._out.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = fatal = exception = log = msg


def _in_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    """What a reader looks for first stands first; the rest as it was given."""
    return {**{name: event.pop(name) for name in _FIRST if name in event}, **event}


def _renderer(lines: bool, out: TextIO) -> Processor:
    if lines:
        return structlog.processors.JSONRenderer(lambda event, **_: _encode(event))
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty() and not os.environ.get("NO_COLOR"),  # no-color.org
        exception_formatter=structlog.dev.plain_traceback,  # the pretty ones show local variables: keys among them
    )


def _never(value: Any) -> str:
    return f"<{type(value).__name__}>"  # redact leaves nothing that JSON cannot say; were it wrong, still no secret


_encode = json.JSONEncoder(default=_never).encode  # one encoder for all lines
