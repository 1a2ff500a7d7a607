"""Runs the command line in this process, as a user would see it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from citadel.cli.app import app
from citadel.cli.run import run


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said. A traceback is never part of it."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Calls `citadel` with arguments; its environment has no CITADEL_* variables but those in `env`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
        self._monkeypatch = monkeypatch
        self.env = dict(env)

    def __call__(self, *args: object, **env: str) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        logging = structlog.get_config()  # some commands set it, for what is a process of their own
        with self._monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("CITADEL_")]:
                patch.delenv(name)
            for name, value in (self.env | env).items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(app, [str(arg) for arg in args])
        structlog.configure(**logging)
        ended = Ended(code, out.getvalue(), err.getvalue())
        assert "Traceback" not in ended.out + ended.err
        return ended
