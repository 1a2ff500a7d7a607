"""Values of messages that are out of every range are named, and are no defects of ours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from citadel.api.admin import convert
from citadel.errors import InvalidInput


@pytest.mark.parametrize("value", [253402300800, 10**15, -(2**63), 2**63 - 1])
def test_a_moment_that_is_none_is_refused(value: int) -> None:
    with pytest.raises(InvalidInput, match=f"{value} is no time"):
        convert.moment(value)


def test_a_moment_is_seconds_since_1970_and_zero_is_none() -> None:
    assert convert.moment(1) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert convert.moment(0) is None
