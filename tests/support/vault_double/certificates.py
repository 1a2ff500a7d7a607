"""The certificates of CAs that the double's PKI engine makes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519


def ca_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: Any,
    key: Any,
    now: datetime,
    ttl: timedelta,
    length: int | None,
    uris: list[x509.UniformResourceIdentifier],
    backdate: int,
    above: x509.Certificate | None = None,
) -> x509.Certificate:
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    above_id = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value if above else key_id
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=backdate))
        .not_valid_after(now + ttl)
        .add_extension(x509.BasicConstraints(True, length), True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        .add_extension(key_id, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above_id), False)
    )
    if uris:
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), False)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None)
    return builder.sign(key, hashes.SHA384() if getattr(key, "key_size", 0) == 384 else hashes.SHA256())
