"""The log: one line per event, ours and the libraries', and nothing in it that must not be read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from citadel.telemetry import configure

PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmUifQ.c2lnbmF0dXJl"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A log as JSON; what it changed in the process is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("info", "json", stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_line_with_when_who_and_what(out: io.StringIO) -> None:
    structlog.get_logger("citadel.ca").info("a certificate was issued", serial="0a", seconds=0.25)
    [line] = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "a certificate was issued",
        "serial": "0a",
        "seconds": 0.25,
        "logger": "citadel.ca",
        "level": "info",
    }


def test_libraries_log_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("port %d is taken", 8476)
    [line] = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("port 8476 is taken", "uvicorn.error", "warning")


def test_a_lower_level_takes_effect_for_loggers_that_exist_but_not_for_the_libraries(out: io.StringIO) -> None:
    log = structlog.get_logger("citadel.ca")
    log.debug("unseen")
    configure("debug", "json", out)
    log.debug("seen")
    logging.getLogger("sqlalchemy.engine").info("INSERT ... parameters")
    logging.getLogger("apscheduler.executors").info("job executed")
    assert [line["event"] for line in lines(out)] == ["seen"]


def test_configured_twice_it_still_writes_each_line_once(out: io.StringIO) -> None:
    configure("info", "json", out)
    logging.getLogger("some.library").warning("hello")
    assert len(lines(out)) == 1


@pytest.mark.parametrize(
    "key", ["password", "vault_token", "private_key", "kek", "client_secret", "Authorization", "apiKey", "x-api-key"]
)
def test_the_value_of_a_secret_key_is_hidden(out: io.StringIO, key: str) -> None:
    structlog.get_logger("citadel.ca").info("hello", **{key: "hunter2"}, nested={key: ["hunter2"]})
    assert "hunter2" not in out.getvalue()
    assert lines(out)[0][key] == "***"


@pytest.mark.parametrize("key", ["kek_id", "token_type", "key_fingerprint", "secret_name", "key_type", "password_file"])
def test_what_only_sounds_secret_is_shown(out: io.StringIO, key: str) -> None:
    structlog.get_logger("citadel.ca").info("hello", **{key: "value"})
    assert lines(out)[0][key] == "value"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM[:50] + "MIGHAgEAMBMGByqGSM49",
        JWT,
        "postgresql://citadel:MIGHAgEAMBMGByqGSM49@db/x",
        "hvs.MIGHAgEAMBMGByqGSM49AAAA",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(out: io.StringIO, text: str) -> None:
    log = structlog.get_logger("citadel.ca")
    log.info(f"got {text}", given=text, listed=[text], nested={"a": {"b": text}})
    try:
        raise ValueError(text)
    except ValueError as error:
        log.exception("it failed", reason=error)
    logging.getLogger("library").error("it failed with %s", text)
    assert "MIGHAgEAMBMGByqGSM49" not in out.getvalue()
    assert "c2lnbmF0dXJl" not in out.getvalue()
    assert len(lines(out)) == 3


def test_bytes_are_counted_and_not_shown(out: io.StringIO) -> None:
    structlog.get_logger("citadel.ca").info("hello", der=b"\x30\x82secret", parts=[b"secret"])
    [line] = lines(out)
    assert (line["der"], line["parts"]) == ("<8 bytes>", ["<6 bytes>"])


@pytest.mark.parametrize("form", ["json", "console"])
def test_nobody_can_forge_a_line_or_write_to_the_terminal(out: io.StringIO, form: Any) -> None:
    configure("info", form, out)
    structlog.get_logger("citadel.sds").warning("rejected\nforged: all is well", detail="a\r\nb\x1b[2J\u2028c")
    logging.getLogger("library").warning("rejected\nforged")
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()


def test_a_traceback_has_no_local_variables(out: io.StringIO) -> None:
    configure("info", "console", out)
    in_a_local_variable = "hunter" + "2"
    try:
        raise ValueError(len(in_a_local_variable))
    except ValueError:
        structlog.get_logger("citadel.ca").exception("it failed")
    assert "Traceback" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_what_is_endless_is_cut(out: io.StringIO) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    structlog.get_logger("citadel.ca").info("hello", text="x" * 1_000_000, many=list(range(10_000)), endless=endless)
    assert len(out.getvalue()) < 10_000
    assert len(lines(out)) == 1


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_costs_nobody_the_line(out: io.StringIO) -> None:
    structlog.get_logger("citadel.ca").info("hello", thing=Broken(), lone="\ud800")
    assert lines(out)[0]["thing"] == "<Broken>"


def test_a_log_that_cannot_be_written_stops_nobody(out: io.StringIO) -> None:
    broken = io.StringIO()
    configure("info", "json", broken)
    broken.close()
    structlog.get_logger("citadel.ca").info("hello")
    assert broken.closed
