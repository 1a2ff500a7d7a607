"""The programs in docs/authorization.md run, and print what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import citadel.authz
from citadel.authz import Decision, Reason

GUIDE = Path(__file__, "../../../../docs/authorization.md").resolve().read_text()


def test_the_examples_run_and_print_what_the_guide_says(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = re.findall("```python\n(.*?)```", GUIDE, re.S)
    (printed,) = re.findall("```text\n(.*?)```", GUIDE, re.S)
    names: dict[str, Any] = {}
    exec(first, names)
    assert capsys.readouterr().out == printed
    exec(second, names)
    assert isinstance(names["found"], Decision)


def test_the_guide_names_every_reason() -> None:
    assert [reason.value for reason in Reason if f"`{reason.value}`" not in GUIDE] == []


def test_what_the_room_exports_is_there() -> None:
    assert [name for name in citadel.authz.__all__ if not hasattr(citadel.authz, name)] == []
