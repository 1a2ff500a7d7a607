"""Plugged-in CAs for tests, in Istio's layout, made with cryptography alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from citadel.spiffe import TrustDomain

_PEM = serialization.Encoding.PEM


class Mint:
    """A root and an intermediate under it."""

    def __init__(self, trust_domain: TrustDomain, *, root_path_length: int | None = None) -> None:
        self._uri = trust_domain.id.uri
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._certificate("root", self._root_key, "root", self._root_key, root_path_length)
        self.renew()

    def renew(self) -> None:
        """Another intermediate under the same root."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate("intermediate", self.key, "root", self._root_key, 0)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.DER)

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "ca-cert.pem").write_bytes(self.certificate.public_bytes(_PEM))
        (folder / "cert-chain.pem").write_bytes(self.certificate.public_bytes(_PEM))
        (folder / "root-cert.pem").write_bytes(self.root.public_bytes(_PEM))
        key = folder / "ca-key.pem"
        key.write_bytes(self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        key.chmod(0o600)

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        path_length: int | None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, path_length), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self._uri)]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
