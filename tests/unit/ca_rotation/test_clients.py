"""How a client stands towards a bundle: what it says about itself cannot make a rotation wait for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from citadel.ca.rotation import Holding
from citadel.ca.rotation.clients import Client, Standing, stand

PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("last", "standing"), [("sent", Standing.SILENT), ("gone", Standing.GONE)])
def test_who_comes_back_again_and_again_without_an_answer_is_silent_since_the_first_time(
    last: str, standing: Standing
) -> None:
    held = Holding("n", "junk", "ROOTCA", True, PUBLISHED + 9 * HOUR, last, 1, unanswered_since=PUBLISHED + HOUR)
    behind = stand(Client("n", "junk", (held,)), 2, PUBLISHED)
    assert behind is not None
    assert (behind.standing, behind.since) == (standing, PUBLISHED + HOUR)


def test_who_answered_what_it_was_sent_is_gone_since_it_went() -> None:
    held = Holding("n", "cart", "ROOTCA", True, PUBLISHED + 9 * HOUR, "gone", 1)
    behind = stand(Client("n", "cart", (held,)), 2, PUBLISHED)
    assert behind is not None
    assert behind.since == PUBLISHED + 9 * HOUR
