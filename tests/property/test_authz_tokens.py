"""Tokens and key sets of any make: they raise our errors or nothing, and what is accepted was signed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from citadel.authz.model import HeaderLocation
from citadel.authz.request import HttpRequest
from citadel.authz.tokens import BadKeySet, KeySet, NoToken, Rejected, TokenGate, TokenRefused
from citadel.authz.tokens.compact import UnverifiedToken
from tests.support.tokens import CLAIMS, NOW, b64, key_set, public_jwk, rule, signed, token

KEYS = KeySet.parse(key_set(public_jwk("ES256")).encode())
GOOD = token()
PLACES = rule(from_headers=(HeaderLocation("x", "p "), HeaderLocation("y")), from_params=("t",), from_cookies=("c",))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["alg", "kid", "crit", "cty", "typ", "jwk", "iss", "sub", "aud", "exp", "nbf", "iat", "jti"])
objects = st.dictionaries(names | st.text(max_size=8), values, max_size=8)
json_bytes = objects.map(lambda one: json.dumps(one).encode()) | st.binary(max_size=200)
segments = json_bytes.map(b64) | st.text(alphabet="aA0-_=.+ \n é", max_size=30)
tokens = (
    st.lists(segments, max_size=6).map(".".join)
    | st.text(max_size=200)
    | st.builds(lambda head, claims: signed({"alg": "ES256", **head}, json.dumps(claims).encode()), objects, objects)
    | st.builds(lambda at, new: GOOD[:at] + new + GOOD[at + 1 :], st.integers(0, len(GOOD)), st.characters())
)


@settings(deadline=None)
@given(tokens)
@example("." * 16384)
@example(GOOD)
def test_any_text_is_a_token_or_is_refused_by_us(text: str) -> None:
    refused = ""
    try:
        KEYS.verify(UnverifiedToken.parse(text))
    except TokenRefused as refusal:
        refused = refusal.message
    assert len(refused.encode()) < 1000
    assert refused or len(text.split(".")) == 3


@settings(deadline=None)
@given(
    st.text(max_size=60) | tokens.map(lambda one: f"/?t={one}"),
    st.dictionaries(st.sampled_from(["x", "y", "cookie", "authorization"]), st.lists(tokens, max_size=3).map(tuple)),
)
def test_any_request_has_a_verdict(path: str, headers: dict[str, tuple[str, ...]]) -> None:
    gate = TokenGate((PLACES, rule()))
    attempt = gate.examine(HttpRequest("GET", path, "a", headers), NOW)
    for proposal in attempt.proposals:
        try:
            for candidate in proposal:
                candidate.verify(KEYS)
        except TokenRefused:
            continue
        assert gate.accept(proposal).claims["iss"] == CLAIMS["iss"]
    assert isinstance(attempt.otherwise(), NoToken | Rejected)


members = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "k", "d", "alg", "use", "kid", "key_ops"]),
    st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "ES256", "RS256", "AQAB", "AA", ""])
    | st.binary(max_size=300).map(b64)
    | values,
)
sets = st.lists(members, max_size=4).map(lambda some: json.dumps({"keys": some}).encode()) | json_bytes


@settings(deadline=None)
@given(sets)
def test_any_bytes_are_a_key_set_or_are_refused_by_us(text: bytes) -> None:
    try:
        found = KeySet.parse(text)
    except BadKeySet as error:
        error.message.encode()
        return
    assert found.keys


HOSTILE: dict[str, Any] = {
    "dots": "." * 100_000,
    "letters": "a" * 100_000,
    "brackets": f"{b64(b'{')}.{b64(b'[' * 9000)}.AA",
    "digits": f"{b64(b'{')}.{b64(b'9' * 9000)}.AA",
    "names": token(b"{" + b",".join(b'"%d":1' % n for n in range(1200)) + b"}"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input_is_refused_in_a_bounded_time(text: str) -> None:
    http = HttpRequest("GET", f"/?t={text}", "a", {"y": (text,), "cookie": (f"c={text};" * 3,)})
    begin = time.process_time()
    attempt = TokenGate((PLACES, rule())).examine(http, NOW)
    assert not attempt.proposals or text is HOSTILE["names"]
    assert time.process_time() - begin < 2  # far more than it takes, far less than anything that explodes
