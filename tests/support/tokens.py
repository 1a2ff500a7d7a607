"""Issuers of tokens: keys, key sets, good tokens, and every kind of broken one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citadel.authz.model import JwtRule
from citadel.authz.request import HttpRequest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISSUER = "https://issuer.example"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
CLAIMS: Mapping[str, Any] = {"iss": ISSUER, "sub": "alice", "aud": "shop", "exp": NOW.timestamp() + 300}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def private_key(algorithm: str, which: int = 0, bits: int = 2048) -> Any:
    """One of any number of keys for an algorithm; the same for the same arguments. RSA keys serve all of theirs."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm[:2] == "ES":
        curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        return ec.generate_private_key(curve)
    return _rsa(which, bits)


@cache
def _rsa(which: int, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public_jwk(algorithm: str, which: int = 0, bits: int = 2048, **more: Any) -> dict[str, Any]:
    made = jwt.PyJWS().get_algorithm_by_name(algorithm)
    member: dict[str, Any] = made.to_jwk(private_key(algorithm, which, bits).public_key(), as_dict=True)
    member.pop("key_ops", None)
    return member | more


def key_set(*members: Any) -> str:
    return json.dumps({"keys": members})


def token(
    claims: Mapping[str, Any] | bytes = CLAIMS,
    algorithm: str = "ES256",
    header: Mapping[str, Any] | None = None,
    *,
    which: int = 0,
    bits: int = 2048,
    **more: Any,
) -> str:
    """A signed token. `more` is added to the claims (None takes one away). Bytes are signed as they are."""
    if isinstance(claims, bytes):
        payload = claims
    else:
        payload = json.dumps({k: v for k, v in {**claims, **more}.items() if v is not None}).encode()
    return signed({"alg": algorithm, "typ": "JWT", **(header or {})}, payload, algorithm, which, bits)


def signed(header: Any, payload: bytes, algorithm: str = "ES256", which: int = 0, bits: int = 2048) -> str:
    """Signed by `algorithm`, whatever the header says."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = f"{b64(head)}.{b64(payload)}"
    made = jwt.PyJWS().get_algorithm_by_name(algorithm)
    return f"{text}.{b64(made.sign(text.encode(), private_key(algorithm, which, bits)))}"


def confused(algorithm: str = "ES256") -> str:
    """The oldest trick: HS256 with the public key as the secret."""
    pem = private_key(algorithm).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{b64(json.dumps({'alg': 'HS256'}).encode())}.{b64(json.dumps(dict(CLAIMS)).encode())}"
    return f"{text}.{b64(hmac.digest(pem, text.encode(), hashlib.sha256))}"


def rule(**more: Any) -> JwtRule:
    """A rule for ISSUER with the key of ES256, unless told otherwise."""
    return JwtRule(**{"issuer": ISSUER, "jwks": key_set(public_jwk("ES256")), **more})


def get(path: str = "/", **headers: str | tuple[str, ...]) -> HttpRequest:
    """A request; `_` in the names of headers stands for a dash."""
    given = {name.replace("_", "-"): (value,) if isinstance(value, str) else value for name, value in headers.items()}
    return HttpRequest("GET", path, "shop", given)


def bearing(text: str) -> HttpRequest:
    return get(authorization=f"Bearer {text}")
