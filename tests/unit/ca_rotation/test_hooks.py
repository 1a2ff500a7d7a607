"""The hooks as one: when they are asked, and that one which breaks its contract ends nobody."""

from __future__ import annotations

import pytest

from citadel.ca.rotation.hooks import Checked, Checks, Question, Verdict
from citadel.errors import Unavailable
from tests.support.clock import ManualClock

ASKED = Question(Checked.ACTIVATE, "example.org", "p1")


class Raises:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def ask(self, question: Question) -> Verdict:
        raise self._error


async def test_a_hook_that_breaks_its_contract_says_no_and_is_not_asked_again_at_once() -> None:
    checks = Checks([Raises(UnicodeError("label too long"))], ManualClock())
    verdict = await checks.ask(ASKED)
    assert verdict == Verdict(False, "asking it failed (UnicodeError); the log says how")
    assert checks.is_too_soon("p1", Checked.ACTIVATE)


async def test_a_store_that_cannot_tell_who_asks_is_no_answer() -> None:
    with pytest.raises(Unavailable):
        await Checks([Raises(Unavailable("the database is away"))], ManualClock()).ask(ASKED)
