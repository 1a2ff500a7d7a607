"""What messages say and how it is read: values out of every range are named, and are no defects of ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from citadel.api.admin import convert
from citadel.ca.model import AuthorityKind, AuthorityState, Skid
from citadel.errors import InvalidInput
from tests.support.rotating import START, authority


@pytest.mark.parametrize("value", [253402300800, 10**15, -(2**63), 2**63 - 1])
def test_a_moment_that_is_none_is_refused(value: int) -> None:
    with pytest.raises(InvalidInput, match=f"{value} is no time"):
        convert.moment(value)


def test_a_moment_is_seconds_since_1970_and_zero_is_none() -> None:
    assert convert.moment(1) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert convert.moment(0) is None


def test_of_a_root_its_own_certificate_comes_first_whatever_another_one_signed_for_its_key() -> None:
    root = authority("r1", AuthorityKind.ROOT, AuthorityState.ACTIVE, "r1", START)
    (own,) = root.certificates
    crossed = replace(own, der=b"crossed", fingerprint="00", issuer_skid=Skid("r0"))
    shown = convert.authority_message(replace(root, certificates=(crossed, own)), 0)
    assert [one.der for one in shown.certificates] == [own.der, crossed.der]
