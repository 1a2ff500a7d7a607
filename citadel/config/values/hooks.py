"""What asks whether a rotation may go on: a program, a webhook, and the steps that they are asked about."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator

from citadel.config.values.reading import several

_STEPS = ("prepare", "activate", "remove")  # the same as ca.rotation.hooks.Checked


def _webhook(value: Any) -> str:
    """`https://host[:port]/path`; without TLS only on this machine."""
    if not value:
        return ""
    parts = None
    if isinstance(value, str) and not any(one.isspace() for one in value):
        with suppress(ValueError):
            found = urlsplit(value)
            _ = found.port, (found.hostname or "").encode("idna")
            parts = found
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an address such as https://gate.example.org/rotation")
    if "@" in parts.netloc:
        raise ValueError("an address in a configuration file holds no password; use webhook_secret")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{value!r} would be asked in the clear, and anybody on the way could answer; use https")
    return str(value)


def _command(value: Any) -> tuple[str, ...]:
    """A program's absolute path, and its arguments. Text is split as a shell would, and run without one."""
    items = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and "\0" not in item for item in items):
        raise ValueError(f"expected a list of a program and its arguments, not {value!r}")
    if items and not items[0].startswith("/"):
        raise ValueError(f"{items[0]!r} is not the absolute path of a program")
    return tuple(items)


def _step(text: str) -> str:
    if text not in _STEPS:
        raise ValueError(f"{text!r} is no step that is asked about; expected {', '.join(_STEPS)}")
    return text


WebhookUrl = Annotated[str, PlainValidator(_webhook)]
Command = Annotated[tuple[str, ...], PlainValidator(_command), PlainSerializer(list, return_type=list)]
Steps = Annotated[
    tuple[str, ...],
    PlainValidator(several(_step, "steps", tuple)),
    PlainSerializer(list, return_type=list),
]
