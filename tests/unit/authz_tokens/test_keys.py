"""Key sets: which keys are used, which are not, and that it is said why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citadel.authz.tokens import BadKeySet, KeySet
from tests.support.tokens import ALGORITHMS, b64, key_set, private_key, public_jwk

RSA, EC = public_jwk("RS256"), public_jwk("ES256")
UNUSABLE = {
    "secret": ({"kty": "oct", "k": "c2VjcmV0"}, "not used"),
    "RSA of 1024 bits": (public_jwk("RS256", bits=1024), "1024 bits"),
    "RSA with a huge modulus": ({**RSA, "n": b64(b"\xff" * 4096)}, "bits"),
    "RSA with exponent 1": ({**RSA, "e": "AQ"}, "exponent|no key"),
    "RSA with a huge exponent": ({**RSA, "e": b64(b"\x7f" * 200 + b"\x01")}, "exponent|no key"),
    "RSA without modulus": ({"kty": "RSA", "e": "AQAB"}, "no key"),
    "for encryption": ({**RSA, "use": "enc"}, "use is not sig"),
    "for signing only": ({**EC, "key_ops": ["sign"]}, "key_ops"),
    "key_ops no list": ({**EC, "key_ops": "verify"}, "key_ops"),
    "alg of another kind": ({**EC, "alg": "RS256"}, "alg"),
    "alg of another curve": ({**EC, "alg": "ES384"}, "alg"),
    "alg none": ({**EC, "alg": "none"}, "alg"),
    "alg HS256": ({**RSA, "alg": "HS256"}, "alg"),
    "alg for encryption": ({**RSA, "alg": "RSA-OAEP"}, "alg"),
    "no kty": ({"crv": "P-256"}, "not used"),
    "kty a list": ({**EC, "kty": ["EC"]}, "strings"),
    "another curve": ({**EC, "crv": "secp256k1"}, "not used"),
    "a point off the curve": ({**EC, "x": b64(bytes(32))}, "no key"),
    "a short coordinate": ({**EC, "x": b64(b"1")}, "no key"),
    "Ed25519 of the wrong length": ({"kty": "OKP", "crv": "Ed25519", "x": b64(b"1")}, "no key"),
    "X25519": ({"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))}, "not used"),
    "kid a number": ({**EC, "kid": 1}, "kid"),
    "no object": ("key", "not a JSON object"),
}


@pytest.mark.parametrize(("member", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_that_does_not_fit_is_not_used_and_its_neighbour_is(member: Any, why: str) -> None:
    found = KeySet.parse(key_set(member, {**EC, "kid": "good"}).encode())
    assert [key.kid for key in found.keys] == ["good"]
    with pytest.raises(BadKeySet, match=why):
        KeySet.parse(key_set(member).encode())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_that_fits_is_used(algorithm: str) -> None:
    members: list[dict[str, Any]] = [{}, {"alg": algorithm}, {"use": "sig"}, {"key_ops": ["verify"]}, {"kid": "a"}]
    found = KeySet.parse(key_set(*(public_jwk(algorithm, **more) for more in members)).encode())
    assert len(found.keys) == len(members)
    assert all(algorithm in key.algorithms for key in found.keys)


def test_of_a_private_key_only_the_public_half_is_kept() -> None:
    number = private_key("ES256").private_numbers().private_value
    member = {**EC, "d": b64(number.to_bytes(32, "big"))}
    found = KeySet.parse(key_set(member).encode())
    assert not hasattr(found.keys[0].public, "private_numbers")


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b'{"keys": [], "keys": []}', b"[" * 100000),
        b" " * (1024 * 1024 + 1),
        json.dumps({"keys": [EC] * 257}).encode(),
    ],
    ids=range(10),
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(BadKeySet):
        KeySet.parse(text)
