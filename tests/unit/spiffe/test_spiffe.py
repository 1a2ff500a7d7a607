"""SPIFFE IDs and trust domains: what is one, what is not, and what is said of it (SPIFFE-ID.md, section 2)."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from citadel.errors import BadSpiffeId, Code
from citadel.spiffe import SpiffeId, TrustDomain

TD = TrustDomain("example.org")


@pytest.mark.parametrize(
    ("text", "trust_domain", "path"),
    [
        ("spiffe://example.org", "example.org", ""),
        ("spiffe://example.org/a", "example.org", "/a"),
        ("spiffe://example.org/ns/shop/sa/Cart-1.2_3", "example.org", "/ns/shop/sa/Cart-1.2_3"),
        ("spiffe://a-b_c.d/...", "a-b_c.d", "/..."),
        ("spiffe://1.2.3.4/.hidden/a..b", "1.2.3.4", "/.hidden/a..b"),
        ("spiffe://..", "..", ""),
    ],
)
def test_an_id_has_one_form_and_is_shown_in_it(text: str, trust_domain: str, path: str) -> None:
    parsed = SpiffeId.parse(text)
    assert (parsed.trust_domain.name, parsed.path) == (trust_domain, path)
    assert str(parsed) == parsed.uri == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must start with 'spiffe://'"),
        ("example.org/a", "must start with 'spiffe://'"),
        ("https://example.org/a", "must start with 'spiffe://'"),
        ("SPIFFE://example.org/a", "in lower case"),
        (" spiffe://example.org/a", "must start with"),
        ("spiffe:/example.org/a", "must start with"),
        ("spiffe://", "the trust domain is empty"),
        ("spiffe:///a", "the trust domain is empty"),
        ("spiffe://Example.org/a", "'E' is not allowed in a trust domain"),
        ("spiffe://exämple.org/a", "'ä' is not allowed in a trust domain"),
        ("spiffe://user@example.org/a", "user info"),
        ("spiffe://user:pw@example.org/a", "user info"),
        ("spiffe://example.org:443/a", "a port"),
        ("spiffe://example.org:/a", "a port"),
        ("spiffe://[::1]/a", "a port"),
        ("spiffe://example.org/", "must not end with a slash"),
        ("spiffe://example.org/a/", "must not end with a slash"),
        ("spiffe://example.org//a", "a path segment is empty"),
        ("spiffe://example.org/a//b", "a path segment is empty"),
        ("spiffe://example.org/.", "dot segments"),
        ("spiffe://example.org/..", "dot segments"),
        ("spiffe://example.org/../a", "dot segments"),
        ("spiffe://example.org/a/./b", "dot segments"),
        ("spiffe://example.org/a/..", "dot segments"),
        ("spiffe://example.org/a,b", "a comma"),
        ("spiffe://example.org,spiffe://other.org/a", "a comma"),
        ("spiffe://example.org/a%2fb", "percent-encoding"),
        ("spiffe://exa%6dple.org/a", "percent-encoding"),
        ("spiffe://example.org/a?b=c", "a query"),
        ("spiffe://example.org?b", "a query"),
        ("spiffe://example.org/a#b", "a fragment"),
        ("spiffe://example.org/a b", "' ' is not allowed in a path"),
        ("spiffe://example.org/a\n", "'\\n' is not allowed in a path"),
        ("spiffe://example.org\n", "'\\n' is not allowed in a trust domain"),
        ("spiffe://example.org/a\x00", "'\\x00' is not allowed in a path"),
        ("spiffe://example.org/ä", "'ä' is not allowed in a path"),
        ("spiffe://example.org/\u2024\u2024", "is not allowed in a path"),
        ("spiffe://example.org/\u0661", "is not allowed in a path"),
        ("spiffe://example.org/\ud800", "is not allowed in a path"),
        ("spiffe://example.org/a;b", "';' is not allowed in a path"),
        ("spiffe://example.org/*", "'*' is not allowed in a path"),
        ("spiffe://example.org\\a", "'\\\\' is not allowed in a trust domain"),
        ("spiffe://" + "a" * 256, "longer than 255 bytes"),
        ("spiffe://example.org/" + "a" * 2028, "longer than 2048 bytes"),
    ],
)
def test_what_is_no_id_is_refused_and_the_reason_told(text: str, why: str) -> None:
    with pytest.raises(BadSpiffeId) as caught:
        SpiffeId.parse(text)
    assert why in caught.value.message
    assert "\n" not in caught.value.sentence()
    assert len(caught.value.message) < 400
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_the_longest_names_pass() -> None:
    assert len(SpiffeId.parse("spiffe://example.org/" + "a" * 2027).uri) == 2048
    assert len(TrustDomain.parse("a" * 255).name) == 255


@pytest.mark.parametrize("text", ["example.org", "spiffe://example.org"])
def test_a_trust_domain_may_be_written_as_an_id(text: str) -> None:
    assert TrustDomain.parse(text) == TD
    assert TD.id == SpiffeId.parse("spiffe://example.org")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("spiffe://", "empty"),
        ("spiffe://example.org/a", "has no path"),
        ("example.org/", "has no path"),
        ("Example.org", "'E' is not allowed"),
        ("example.org:80", "a port"),
        ("a@example.org", "user info"),
        ("example.org\n", "'\\n' is not allowed"),
        ("spiffe://spiffe://example.org", "a port"),
        ("a" * 256, "longer than 255"),
    ],
)
def test_what_is_no_trust_domain_is_refused_and_the_reason_told(text: str, why: str) -> None:
    with pytest.raises(BadSpiffeId, match="is not a trust domain") as caught:
        TrustDomain.parse(text)
    assert why in caught.value.message


def test_an_id_is_made_of_segments_and_checked_like_any_other() -> None:
    assert SpiffeId.of(TD, "ns", "shop").uri == "spiffe://example.org/ns/shop"
    assert SpiffeId.of(TD) == TD.id
    for segments in (("..",), ("a", ""), ("a?b",), ("a,b",)):
        with pytest.raises(BadSpiffeId):
            SpiffeId.of(TD, *segments)


def test_membership_is_of_the_very_trust_domain() -> None:
    cart = SpiffeId.of(TD, "cart")
    assert cart.is_member_of(TD)
    assert not cart.is_member_of(TrustDomain("sub.example.org"))
    assert not SpiffeId.parse("spiffe://example.org.evil/cart").is_member_of(TD)


def test_equal_ids_are_one_key_and_none_can_be_changed() -> None:
    cart = SpiffeId.of(TD, "cart")
    assert {cart, SpiffeId.parse("spiffe://example.org/cart")} == {cart}
    with pytest.raises(FrozenInstanceError):
        cart.path = "/admin"  # type: ignore[misc]  # that is what is tried
