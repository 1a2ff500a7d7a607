"""A trust bundle as others read it: PEM and JWKS through the SPIFFE client library's own parsers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import PyJWKSet
from spiffe import TrustDomain
from spiffe.bundle.x509_bundle.x509_bundle import X509Bundle

from citadel.cli.certificates import jwk, pem
from tests.support.cacerts import make_ca

KEYS: list[Any] = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()),
    rsa.generate_private_key(65537, 2048),
]
ROOTS = [make_ca(f"root {number}", key=key) for number, key in enumerate(KEYS)]


def public(key: Any) -> bytes:
    written: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return written


def test_the_spiffe_client_reads_the_pem() -> None:
    text = "".join(pem(root.der) for root in ROOTS)
    read = X509Bundle.parse(TrustDomain("example.org"), text.encode())
    assert read.x509_authorities == {root.certificate for root in ROOTS}


def test_its_jwt_library_finds_every_key_in_the_jwks() -> None:
    document = json.dumps({"keys": [jwk(root.der) for root in ROOTS], "spiffe_sequence": 1})
    read = PyJWKSet.from_json(document).keys
    assert [public(key.key) for key in read] == [public(root.certificate.public_key()) for root in ROOTS]
    assert {key.public_key_use for key in read} == {"x509-svid"}


@pytest.mark.parametrize("root", ROOTS)
def test_a_key_carries_its_certificate_alone_and_no_id(root: Any) -> None:
    """SPIFFE Trust Domain and Bundle, 4.2.2: `x5c` holds exactly one certificate; `kid` is for JWT-SVIDs."""
    document = jwk(root.der)
    assert [base64.b64decode(one, validate=True) for one in document["x5c"]] == [root.der]
    assert "kid" not in document
