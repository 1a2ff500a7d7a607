"""What is thrown at the loader by accident or on purpose: bounded, told, and never an exception but ours.

Time is not asserted here (tests/bench has it); pytest's timeout catches what is not linear.
"""

from __future__ import annotations

import pytest

from citadel.authz import SourceText, load
from citadel.errors import BadFile
from tests.unit.authz.load_cases import authorization

KILOBYTES = 100 * 1024


def fill(unit: str) -> str:
    return unit * (KILOBYTES // len(unit))


LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

BAD = {
    "lists in lists": ("a: " + fill("["), "nested more than 64 deep"),
    "mappings in mappings": (fill("{a: "), "nested more than 64 deep"),
    "lists on lines of their own": ("a:\n " + fill("- "), "nested more than 64 deep"),
    "ever deeper indents": ("\n".join(" " * n + "a:" for n in range(400)), "nested more than 64 deep"),
    "JSON in JSON": (fill('{"a":'), "nested more than 64 deep"),
    "billion laughs": (LAUGHS, "stand for more than 10000 values"),
    "laughs by merge keys": (
        "a0: &a0 {x: y}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: v}}\n" for n in range(1, 10)),
        "stand for more than 10000 values",
    ),
    "nothing but tiny values": ("a: [" + fill("[],"), "too many for its size"),
    "more fields than anybody reads": (
        "a: {" + ",".join(f"k{n}" for n in range(20_000)) + "}",
        "too many for its size",
    ),
    "mistakes without end": (authorization("{rules: [{when: [" + "{}," * 5000 + "]}]}"), "has no key"),
    "cut in the middle": (authorization("{rules: [{from: [{source: {principals: [a"), "not YAML"),
    "cut in a text": (authorization('{rules: "'), "not YAML"),
    "tabs": (fill("\t") + "a", "a tab"),
    "null characters": (fill("\0"), "U+0000"),
    "a bell": ("a: \a", "U+0007"),
    "one key, again and again": (fill("a: b\n"), "is there twice"),
    "as many as possible": (fill("---\nx\n"), "a Kubernetes object"),
    "a document that goes on and on": ("a: " + fill("x"), "has apiVersion"),
    "a number that goes on and on": ('{"a": ' + fill("1") + "}", "has apiVersion"),
    "a name that goes on and on": (authorization("{}", metadata="{name: " + fill("a") + "}"), "at most 253"),
    "a key that goes on and on": (authorization("{? " + fill("a") + " : b}"), "no such field"),
    "a condition that goes on and on": (
        authorization("{rules: [{when: [{key: '" + fill("request.headers[") + "', values: [a]}]}]}"),
        "at most 1024",
    ),
    "a path that goes on and on": (
        authorization("{rules: [{to: [{operation: {paths: ['" + fill("/{**}") + "']}}]}]}"),
        "may follow",
    ),
    "a kind that goes on and on": ("apiVersion: security.istio.io/v1\nkind: " + fill("A"), "no kind"),
    "a timeout that goes on and on": (
        authorization("{jwtRules: [{issuer: a, timeout: " + fill("1s") + "}]}")
        .replace("Authorization", "x")
        .replace("xPolicy", "RequestAuthentication"),
        "not a duration",
    ),
    "keys in keys": (
        authorization("{jwtRules: [{issuer: a, jwks: '" + fill("[") + "'}]}").replace(
            "AuthorizationPolicy", "RequestAuthentication"
        ),
        "not JSON",
    ),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD.keys())
@pytest.mark.timeout(10)
def test_it_is_refused_with_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        load([SourceText("p.yaml", text.encode())])
    assert says in caught.value.message
    assert all(len(str(mistake)) < 600 for mistake in caught.value.mistakes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: \xff\n", "p.yaml:1:4: it is not UTF-8 text"),
        ("a: b\n".encode("utf-16"), "p.yaml:1:1: it is not UTF-8 text (it looks like UTF-16)"),
        (b"# \xc3\xa4\n\xc3", "p.yaml:2:1: it is not UTF-8 text"),
        (b"\xed\xa0\x80", "it is not UTF-8 text"),
    ],
)
def test_what_is_not_utf_8_is_told_with_its_place(content: bytes, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        load([SourceText("p.yaml", content)])
    assert says in str(caught.value)


def test_a_file_that_is_too_large_is_not_read_at_all() -> None:
    with pytest.raises(BadFile, match="larger than 32 MiB"):
        load([SourceText("p.yaml", bytes(32 * 1024 * 1024 + 1))])


def test_a_load_that_is_cut_short_is_never_given_out() -> None:
    with pytest.raises(BadFile, match=r"p.yaml: there are more than 200000 documents"):
        load([SourceText("p.yaml", b"---\napiVersion: v1\nkind: X\n" * 200_001)])


GOOD = {
    "blank lines": fill("\n"),
    "comments": fill("# a\n"),
    "document markers": fill("---\n"),
    "a text of a megabyte": "apiVersion: v1\nkind: ConfigMap\ndata: {a: " + "x" * 2**20 + "}\n",
    "a block of a megabyte": "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n" + "    x\n" * 2**17,
    "sixty levels": "apiVersion: v1\nkind: X\na: " + "[" * 60 + "]" * 60,
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
@pytest.mark.timeout(10)
def test_what_is_only_large_loads(text: str) -> None:
    assert len(load([SourceText("p.yaml", text.encode())])) == 0


def test_nothing_of_a_load_with_one_mistake_is_given_out() -> None:
    good = SourceText("a.yaml", authorization("{}").encode())
    with pytest.raises(BadFile) as caught:
        load([good, SourceText("b.yaml", b"x")])
    assert [mistake.file for mistake in caught.value.mistakes] == ["b.yaml"]
