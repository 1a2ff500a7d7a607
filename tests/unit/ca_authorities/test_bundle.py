"""Which certificates of which roots are to be trusted at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from citadel.ca.bundle import next_bundle
from citadel.ca.certificates import read_certificate
from citadel.ca.model import IN_BUNDLE, Authority, AuthorityKind, AuthorityState, KeySource, TrustBundle
from citadel.spiffe import TrustDomain
from tests.support.cacerts import DAY, Ca, make_ca

TD = TrustDomain("example.org")
NOW = datetime.now(UTC).replace(microsecond=0)


def root(*certificates: Ca, state: AuthorityState = AuthorityState.ACTIVE) -> Authority:
    read = tuple(read_certificate(one.der) for one in certificates)
    skid = read[-1].issuer_skid
    assert skid is not None
    return Authority(skid, AuthorityKind.ROOT, state, TD, KeySource.NONE, read, skid, NOW, NOW)


def bundle(*roots: Authority, old: TrustBundle | None = None, now: datetime = NOW) -> TrustBundle | None:
    return next_bundle(old, roots, TD, 300, None, now=now)


def ders(found: TrustBundle | None) -> set[bytes]:
    assert found is not None
    return set(found.roots)


def of(*certificates: Ca) -> set[bytes]:
    return {one.der for one in certificates}


@pytest.mark.parametrize("state", list(AuthorityState))
def test_a_root_is_trusted_from_its_distribution_to_its_removal(state: AuthorityState) -> None:
    there, one = root(make_ca("there")), make_ca("one")
    assert (one.der in ders(bundle(there, root(one, state=state)))) is (state in IN_BUNDLE)


def test_a_bundle_that_is_right_stays_and_one_that_would_be_empty_is_none() -> None:
    one = root(make_ca("one"))
    first = bundle(one)
    assert first is not None
    assert first.sequence == 1
    assert bundle(one, old=first) is None
    assert bundle(root(make_ca("x"), state=AuthorityState.REMOVED), old=first) is None


def test_two_certificates_of_one_key_are_both_trusted_until_the_older_one_nears_its_end() -> None:
    key = make_ca("x").key
    old, new = make_ca("root", key=key, ends=10 * DAY, now=NOW), make_ca("root", key=key, ends=90 * DAY, now=NOW)
    authority = root(new, old)
    first = bundle(authority)
    assert ders(first) == of(old, new)
    later = bundle(authority, old=first, now=NOW + 10 * DAY - timedelta(minutes=30))
    assert ders(later) == of(new)
    assert later is not None
    assert later.sequence == 2


@pytest.mark.parametrize(
    ("ends", "kept"), [([-2 * DAY, -DAY], 1), ([DAY / 48, DAY / 96], 0), ([-DAY, DAY / 48], 1), ([-DAY, DAY], 1)]
)
def test_a_root_never_loses_its_last_certificate(ends: Sequence[timedelta], kept: int) -> None:
    key = make_ca("x").key
    certificates = [make_ca("root", key=key, begins=-9 * DAY, ends=end, now=NOW) for end in ends]
    assert ders(bundle(root(*certificates))) == of(certificates[kept])


def test_one_that_is_not_valid_yet_and_one_that_another_signed_are_no_anchors() -> None:
    key = make_ca("x").key
    own, future = make_ca("root", key=key, now=NOW), make_ca("root", key=key, begins=DAY, now=NOW)
    crossed = make_ca("root", make_ca("another"), key=key, now=NOW)
    assert ders(bundle(root(future, crossed, own))) == of(own)
