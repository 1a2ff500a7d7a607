"""Key sets in a form that Envoy is sure to load: it refuses a whole configuration for one bad key, or for no key."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from citadel.authz.envoy.strings import MAX_TEXT

MIN_RSA_BITS = 2048
_CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_PUBLIC = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")

NOBODYS: dict[str, str] = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ES256",
    "x": "pwAaBWG-I7VYMHpEU5C2nUqJ9iMfNA8EF0HOUE-HwPA",
    "y": "2CLZkeKjyNyKfq1aN2GPZwia0urRpBzS5q9nH4Rmpu8",
}
"""A key that nobody has: its x is the SHA-256 of `citadel: nobody has this key 4`. No token verifies with it."""


def usable(text: str) -> str:
    """The public keys of a set (RFC 7517) that Envoy can verify with; where there is none, the one that nobody has.

    Keys that are no public keys, are malformed, off their curve or too small are left out: their tokens are refused.
    """
    keys = list(_keys(text)) or [NOBODYS]
    return json.dumps({"keys": keys})


def _keys(text: str) -> Iterator[dict[str, str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    keys = found.get("keys") if isinstance(found, dict) else None
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, dict):
            public = {name: key[name] for name in _PUBLIC if name in key}
            if all(isinstance(value, str) and _fine(value) for value in public.values()) and _verifies(public):
                yield public


def _fine(text: str) -> bool:
    return len(text) <= MAX_TEXT and text.isprintable()


def _verifies(key: dict[str, str]) -> bool:
    if key.get("use", "sig") != "sig":
        return False
    try:
        match key.get("kty"):
            case "EC":
                curve, algorithm = _CURVES[key["crv"]]
                if key.get("alg", algorithm) != algorithm:
                    return False
                ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), curve).public_key()
                return True
            case "RSA":
                made = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
                return made.key_size >= MIN_RSA_BITS and key.get("alg", "RS256") in _RSA_ALGORITHMS
            case "OKP":
                ed25519.Ed25519PublicKey.from_public_bytes(_bytes(key["x"]))
                return key["crv"] == "Ed25519" and key.get("alg", "EdDSA") == "EdDSA"
    except (KeyError, ValueError, UnsupportedAlgorithm):
        return False
    return False


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _bytes(text: str) -> bytes:
    """Raises ValueError. Without padding, as RFC 7515 wants it and Envoy reads it."""
    raw: Any = text.encode("ascii")
    if set(raw) - _ALPHABET:
        raise ValueError("not base64url")
    return urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))


_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
