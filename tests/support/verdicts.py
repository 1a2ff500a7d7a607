"""What others say of our certificates: OpenSSL's strict verification, and pkilint."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

#: What pkilint finds in our certificates, each explained in docs/certificates.md. Everything else fails a test.
EXPLAINED = frozenset(
    {
        ("ERROR", "pkix.invalid_uri_syntax"),  # it knows web schemes only, not spiffe://
        ("ERROR", "pkix.uri_domain_name_too_long"),  # a trust domain may have 255 bytes, a host name 253
        ("ERROR", "pkix.invalid_domain_name_syntax"),  # a DNS name of one part, such as `web` in a cluster
    }
)


def openssl_verify(
    leaf: bytes, intermediates: Sequence[bytes], root: bytes, *, purpose: str, at: datetime, crls: Sequence[bytes] = ()
) -> None:
    """`openssl verify -x509_strict` of DER certificates at a moment, for `purpose` (sslserver, sslclient). With `crls`
    (PEM), one of every CA is wanted, as Envoy does.

    Fails the test with what OpenSSL says; skips it where there is no openssl command.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command (Debian: apt install openssl)")
    with tempfile.TemporaryDirectory() as folder:
        files = {"leaf": [leaf], "between": list(intermediates), "root": [root]}
        for name, certificates in files.items():
            Path(folder, name).write_bytes(b"".join(map(_pem, certificates)))
        untrusted = ["-untrusted", f"{folder}/between"] if intermediates else []
        revocation = []
        if crls:
            Path(folder, "crls").write_bytes(b"".join(crls))
            revocation = ["-crl_check_all", "-CRLfile", f"{folder}/crls"]
        result = subprocess.run(
            [
                *(openssl, "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose),
                *("-attime", str(int(at.timestamp())), "-no-CApath", "-no-CAstore", *revocation),
                *("-CAfile", f"{folder}/root", *untrusted, f"{folder}/leaf"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert result.returncode == 0, result.stdout + result.stderr


def pkilint_findings(certificate: bytes) -> set[tuple[str, str, str]]:
    """What pkilint's RFC 5280 linter finds, from NOTICE up: severity, code, message."""
    from pkilint import loader

    read = loader.RFC5280CertificateDocumentLoader().load_der_document(certificate)
    return {
        (finding.finding.severity.name, finding.finding.code, finding.message or "")
        for result in _validators().validate(read.root)
        for finding in result.finding_descriptions
        if finding.finding.severity.name in ("NOTICE", "WARNING", "ERROR", "FATAL")
    }


def assert_pkilint_content(certificate: bytes) -> None:
    unexplained = {found for found in pkilint_findings(certificate) if found[:2] not in EXPLAINED}
    assert not unexplained, unexplained


@functools.cache
def _validators() -> Any:
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
