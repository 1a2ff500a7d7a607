"""Certificates as text: PEM, and the JWKS shape of a SPIFFE bundle."""

from __future__ import annotations

import base64
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.cli.times import iso
from citadel.errors import InternalFault


def pem(der: bytes) -> str:
    """One certificate as PEM, with its line feed."""
    return ssl.DER_cert_to_PEM_cert(der)


def described(der: bytes) -> dict[str, Any]:
    """What people want to know of a root, and the certificate itself."""
    certificate = x509.load_der_x509_certificate(der)
    return {
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "subject": certificate.subject.rfc4514_string(),
        "not_before": iso(certificate.not_valid_before_utc),
        "not_after": iso(certificate.not_valid_after_utc),
        "pem": pem(der),
    }


def jwk(der: bytes) -> dict[str, Any]:
    """A root as a JWK of use `x509-svid`: its key (RFC 7518, 6.2 and 6.3), and the certificate alone in `x5c`
    (SPIFFE Trust Domain and Bundle, 4.2; X509-SVID, 6)."""
    key = x509.load_der_x509_certificate(der).public_key()
    document: dict[str, Any] = {"use": "x509-svid"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.curve.key_size + 7) // 8
        numbers = key.public_numbers()
        document |= {
            "kty": "EC",
            "crv": {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size],
            "x": _number(numbers.x, size),
            "y": _number(numbers.y, size),
        }
    elif isinstance(key, rsa.RSAPublicKey):
        public = key.public_numbers()
        document |= {
            "kty": "RSA",
            "n": _number(public.n, (public.n.bit_length() + 7) // 8),
            "e": _number(public.e, (public.e.bit_length() + 7) // 8),
        }
    else:
        raise InternalFault("the bundle has a root whose key is neither EC nor RSA")
    return document | {"x5c": [base64.b64encode(der).decode()]}


def _number(value: int, size: int) -> str:
    """Base64url without padding, of a fixed size (RFC 7518, 2)."""
    return base64.urlsafe_b64encode(value.to_bytes(size)).rstrip(b"=").decode()
