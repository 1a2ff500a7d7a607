"""CAs of nobody, and certificates from them, as files that TLS libraries read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Ca:
    """A CA, and what it signs."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._signed(self.name, self.key.public_key(), [basic], timedelta(days=1))
        self.der = self.certificate.public_bytes(Encoding.DER)

    def issue(
        self, folder: Path, uri: str | None = None, life: timedelta = timedelta(hours=1), *, name: str = ""
    ) -> tuple[Path, Path]:
        """A certificate for localhost, or of a SPIFFE ID; as files. `name`: its subject's common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
        if uri is not None:
            names = [x509.UniformResourceIdentifier(uri)]
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        extensions = [x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage(both)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        self.last = self._signed(subject, key.public_key(), extensions, life)
        folder.mkdir(exist_ok=True)
        (folder / "cert.pem").write_bytes(self.last.public_bytes(Encoding.PEM))
        (folder / "key.pem").touch(mode=0o600)
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return folder / "cert.pem", folder / "key.pem"

    def crl(self, *serials: int) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now)
        builder = builder.next_update(now + timedelta(days=1))
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, extensions: list[x509.ExtensionType], life: timedelta
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(minutes=1))
        builder = builder.not_valid_after(now + life)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256())
