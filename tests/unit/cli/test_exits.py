from __future__ import annotations

import re
from pathlib import Path

import pytest

from citadel import errors
from citadel.cli.exits import Exit, exit_for

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_documented_exit_codes_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in Exit]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("x"), 4),
        (errors.BadFile([]), 4),
        (errors.NotFound("x"), 3),
        (errors.AlreadyExists("x"), 7),
        (errors.Unauthenticated("x"), 5),
        (errors.PermissionDenied("x"), 5),
        (errors.ResourceExhausted("x"), 5),
        (errors.FailedPrecondition("x"), 7),
        (errors.UnsafePermissions("x"), 5),
        (errors.Aborted("x"), 7),
        (errors.Unavailable("x"), 6),
        (errors.InternalFault("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_code(error: errors.CitadelError, code: int) -> None:
    assert exit_for(error) == code
