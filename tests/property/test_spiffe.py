"""Whatever the parser takes obeys SPIFFE-ID.md by a check that shares no code with it, and the reverse."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from citadel.errors import BadSpiffeId
from citadel.spiffe import SpiffeId, TrustDomain

TRUST_DOMAIN_CHARACTERS = set(string.ascii_lowercase + string.digits + ".-_")
SEGMENT_CHARACTERS = set(string.ascii_letters + string.digits + ".-_")


def obeys_the_standard(text: str) -> bool:
    """SPIFFE-ID.md 2.1 to 2.3, sentence by sentence."""
    if not text.startswith("spiffe://") or len(text.encode("utf-8", "replace")) > 2048:
        return False
    name, *segments = text[len("spiffe://") :].split("/")
    if not 0 < len(name) <= 255 or not set(name) <= TRUST_DOMAIN_CHARACTERS:
        return False
    return all(s and s not in (".", "..") and set(s) <= SEGMENT_CHARACTERS for s in segments)


def taken(text: str) -> bool:
    try:
        SpiffeId.parse(text)
    except BadSpiffeId:
        return False
    return True


names = st.text(st.sampled_from(sorted(TRUST_DOMAIN_CHARACTERS)), min_size=1, max_size=255)
segments = st.text(st.sampled_from(sorted(SEGMENT_CHARACTERS)), min_size=1, max_size=40).filter(
    lambda s: s not in (".", "..")
)
# Pieces that IDs are made of, and what attackers put between them.
pieces = st.sampled_from(
    ["spiffe://", "spiffe:", "//", "/", "example.org", "a", "A", ".", "..", ",", "%2f", ":80", "u@", "?q", "#f", "\n"]
)
nearly = st.builds(lambda parts: "spiffe://" + "".join(parts), st.lists(pieces | st.characters(), max_size=12))


@given(st.text() | nearly)
@example("spiffe://example.org/a\n")
@example("spiffe://example.org/a,spiffe://example.org/b")
def test_the_parser_takes_what_the_standard_takes_and_nothing_else(text: str) -> None:
    assert taken(text) == obeys_the_standard(text)


@given(names, st.lists(segments, max_size=8))
def test_what_is_made_of_good_parts_comes_back_as_it_was(name: str, parts: list[str]) -> None:
    made = SpiffeId.of(TrustDomain.parse(name), *parts)
    assert SpiffeId.parse(str(made)) == made
    assert made.path.split("/")[1:] == parts
    seen = urlsplit(made.uri)
    assert (seen.scheme, seen.netloc, seen.path, seen.query, seen.fragment) == ("spiffe", name, made.path, "", "")


@given(names, st.lists(segments, max_size=3), st.data())
def test_one_foreign_character_anywhere_and_it_is_refused(name: str, parts: list[str], data: st.DataObject) -> None:
    text = SpiffeId.of(TrustDomain.parse(name), *parts).uri
    foreign = data.draw(st.characters().filter(lambda c: c not in SEGMENT_CHARACTERS | {"/", ":"}))
    at = data.draw(st.integers(0, len(text)))
    with pytest.raises(BadSpiffeId) as caught:
        SpiffeId.parse(text[:at] + foreign + text[at:])
    caught.value.sentence().encode()  # can be said anywhere, whatever was in it
    assert caught.value.sentence().isprintable()


@given(st.text() | nearly)
def test_a_trust_domain_is_what_an_id_without_path_has(text: str) -> None:
    bare = text.removeprefix("spiffe://")
    try:
        name = TrustDomain.parse(text).name
    except BadSpiffeId:
        assert not obeys_the_standard(f"spiffe://{bare}") or "/" in bare
    else:
        assert name == bare
        assert obeys_the_standard(f"spiffe://{name}")
