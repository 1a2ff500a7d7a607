from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel.authz.facts import PathNormalization
from citadel.authz.paths import BadPath, normalize, without_query
from citadel.authz.template import PathTemplate

NONE, BASE, MERGE, DECODE = PathNormalization

# on the wire, and after BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES: as seen behind Envoy 1.40
AS_IN_ENVOY = [
    ("/a/../b", "/b", "/b", "/b"),
    ("/../a/./b/..", "/a/", "/a/", "/a/"),
    ("/a/%2e%2E/b", "/b", "/b", "/b"),
    ("/%61dmin/%7E", "/admin/~", "/admin/~", "/admin/~"),
    ("/a%3fb%23", "/a%3fb%23", "/a%3fb%23", "/a%3fb%23"),
    ("//a///b/", "//a///b/", "/a/b/", "/a/b/"),
    ("///", "///", "//", "//"),
    ("/a\\..\\b", "/b", "/b", "/b"),
    ("/x%2f..%2Fadmin", "/x%2f..%2Fadmin", "/x%2f..%2Fadmin", "/admin"),
    ("/x%5C..%5cadmin", "/x%5C..%5cadmin", "/x%5C..%5cadmin", "/admin"),
    ("/%252f%252e", "/%252f%252e", "/%252f%252e", "/%252f%252e"),
    ("/%%32f", "/%252f", "/%252f", "/%252f"),
    ("/%%32%66", "/%252f", "/%252f", "/%252f"),
    ("/%2%66", "/%252f", "/%252f", "/%252f"),
    ("/100%", "/100%", "/100%", "/100%"),
    ("/a/..;x=1/b", "/b", "/b", "/b"),
    ("/a/.;/b", "/a/b", "/a/b", "/a/b"),
    ("/a;x/b", "/a;x/b", "/a;x/b", "/a;x/b"),
    ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D", "/%22%3C%3E%5E%60%7B%7C%7D", "/%22%3C%3E%5E%60%7B%7C%7D"),
    ("/é\udcff", "/%C3%A9%FF", "/%C3%A9%FF", "/%C3%A9%FF"),
    ("//x/../%61?q=//../%61", "//a?q=//../%61", "/a?q=//../%61", "/a?q=//../%61"),
    ("*", "*", "*", "*"),
    ("", "", "", ""),
]


@pytest.mark.parametrize(("raw", "base", "merged", "decoded"), AS_IN_ENVOY)
def test_paths_become_what_envoy_makes_of_them_and_stay_so(raw: str, base: str, merged: str, decoded: str) -> None:
    for mode, expected in ((NONE, raw), (BASE, base), (MERGE, merged), (DECODE, decoded)):
        assert normalize(raw, mode) == expected
        assert normalize(expected, mode) == expected


@pytest.mark.parametrize("raw", ["a", "?a", "http://a/b", "/a b", "/a\tb", "/\x00", "/\x7f", "/a#b", "/a?b#c", "/a\nb"])
@pytest.mark.parametrize("mode", PathNormalization)
def test_what_no_codec_of_envoy_lets_through_is_refused_in_every_mode(raw: str, mode: PathNormalization) -> None:
    with pytest.raises(BadPath):
        normalize(raw, mode)


def test_an_encoded_nul_is_refused_wherever_escapes_are_read() -> None:
    assert normalize("/a%00", NONE) == "/a%00"
    for mode in (BASE, MERGE, DECODE):
        with pytest.raises(BadPath, match="%00"):
            normalize("/a%00", mode)
        assert normalize("/a?%00", mode) == "/a?%00"


@pytest.mark.parametrize("raw", ["/a/%2e%2e;x/b", "/a/.%2E;/b", "/a/%2e;x", "/a\\..;x/b"])
def test_dot_segments_with_parameters_that_only_some_upstreams_resolve_are_refused(raw: str) -> None:
    for mode in (BASE, MERGE, DECODE):
        with pytest.raises(BadPath, match="left over"):
            normalize(raw, mode)
    assert normalize(raw, NONE) == raw


def test_behind_a_listener_that_normalises_no_dot_segment_with_parameters_may_be_left() -> None:
    assert normalize("/a/..;x/b", BASE) == "/b"
    with pytest.raises(BadPath, match="came through"):
        normalize("/a/..;x/b", BASE, seen=True)
    assert normalize("/a//b", MERGE, seen=True) == "/a/b"
    assert normalize("/a?/..;x", BASE, seen=True) == "/a?/..;x"


def test_the_query_is_no_part_of_the_path_that_policies_name() -> None:
    assert without_query("/a?b?c") == "/a"
    assert without_query("/a") == "/a"


TEMPLATES = [
    ("/a/{*}", ["/a/b", "/a/=", "/a/|", "/a/[x]", "/a/é", "/a/ "], ["/a/", "/a", "/a/b/", "/a/b/c", "/x/b", "a/b"]),
    ("/{*}/b", ["/a/b"], ["//b", "/b", "/a/b/c"]),
    ("/a/{*}/", ["/a/b/"], ["/a/b", "/a//"]),
    ("/a/{**}", ["/a/", "/a/b", "/a/b/c", "/a//", "/a/="], ["/a", "/ab", "/"]),
    ("/{**}", ["/", "/a", "//"], [""]),
    ("/s/{**}/c", ["/s//c", "/s/a/c", "/s/a/b/c", "/s/c/c"], ["/s/c", "/s/a/c/", "/s/ac", "/s/a/xc"]),
    ("/{*}/x/{**}/y/z", ["/a/x//y/z", "/a/x/b/y/z"], ["/a/x/y/z", "//x/b/y/z", "/a/x/b/y/z/"]),
]


@pytest.mark.parametrize(("template", "matching", "others"), TEMPLATES)
def test_templates_match_whole_paths_by_segments(template: str, matching: list[str], others: list[str]) -> None:
    parsed = PathTemplate.parse(template)
    assert [path for path in [*matching, *others] if parsed.match(path)] == matching
    assert all(path.startswith(parsed.literal_start) for path in matching)


_TEXT = st.text(st.sampled_from([*"/.%;?{}*\\2eEfFcC5a#é<", "\udcff", "\0"]), max_size=40)


@given(_TEXT, st.sampled_from(PathNormalization), st.booleans())
def test_any_path_is_normalised_once_and_for_all_or_refused(text: str, mode: PathNormalization, seen: bool) -> None:
    with suppress(BadPath):
        found = normalize("/" + text, mode, seen=seen)
        assert normalize(found, mode, seen=True) == found


@pytest.mark.parametrize("unit", ["/..", "/{*}", "%", "%6", "é", "//", "/..;", "\\", "%2f", "\udcff", "/%2e%2e"])
def test_long_paths_are_normalised_and_matched_in_linear_time(unit: str) -> None:
    path = "/" + unit * (100_000 // len(unit))
    begin = time.process_time()
    for mode in PathNormalization:
        with suppress(BadPath):
            normalize(path, mode)
        PathTemplate.parse("/{*}/a/{**}/b").match(path)
    assert time.process_time() - begin < 3  # far more than it takes, far less than anything quadratic
