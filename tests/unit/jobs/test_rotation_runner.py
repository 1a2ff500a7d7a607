"""The keeper of rotations: how often it looks."""

from __future__ import annotations

import pytest

from citadel.jobs.rotation import pause


@pytest.mark.parametrize(
    ("took", "worked", "pause_is"),
    [
        (0.01, 0.01, 0.1),  # many acknowledgements at once are one look
        (1.0, 1.0, 4.0),  # very many clients
        (20.0, 0.02, 0.1),  # a hook that did not answer holds up no other rotation, nor an emergency, for longer
        (60.0, 60.0, 10.0),
    ],
)
def test_the_next_look_waits_for_work_and_not_for_waiting(took: float, worked: float, pause_is: float) -> None:
    assert pause(took, worked) == pytest.approx(pause_is)
