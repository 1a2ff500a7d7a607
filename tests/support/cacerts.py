"""Plugged-in CAs for tests, in Istio's layout, made with cryptography alone: sound ones, and ones with any fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from citadel.ca import der
from citadel.spiffe import TrustDomain

DAY = timedelta(days=1)
SIGNS_CERTIFICATES = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Ca:
    """A CA, and the one that signed it (None: itself)."""

    certificate: x509.Certificate
    key: Any
    issuer: Ca | None = None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return private_pem(self.key)

    @property
    def root(self) -> Ca:
        return self if self.issuer is None else self.issuer.root


def private_pem(key: Any, password: bytes | None = None) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem: bytes = key.private_bytes(_PEM, _PKCS8, lock)
    return pem


def make_ca(
    name: str,
    issuer: Ca | None = None,
    *,
    key: Any = None,
    ca: bool | None = True,
    path_length: int | None = None,
    usage: x509.KeyUsage | None = SIGNS_CERTIFICATES,
    begins: timedelta = -DAY,
    ends: timedelta = 365 * DAY,
    hash_: Any = None,
    uri: str | None = "spiffe://example.org",
    identifiers: bool = True,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    now: datetime | None = None,
) -> Ca:
    """A CA under `issuer` (None: a root). `ca` None leaves its basic constraints out; times are relative to `now`."""
    now = now or datetime.now(UTC)
    key = key or ec.generate_private_key(ec.SECP256R1())
    signs = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if identifiers:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key())
        builder = builder.add_extension(own, critical=False).add_extension(above, critical=False)
    if uri is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    default = hashes.SHA256() if isinstance(signs, ec.EllipticCurvePrivateKey) or hasattr(signs, "decrypt") else None
    return Ca(builder.sign(signs, hash_ or default), key, issuer)


def resigned_with_sha1(ca: Ca, root: Ca) -> Ca:
    """The library does not write such a signature any more: it is put together by hand."""
    sha1 = der.AlgorithmIdentifier(oid=SignatureAlgorithmOID.RSA_WITH_SHA1, parameters=asn1.Null())
    sha256 = SignatureAlgorithmOID.RSA_WITH_SHA256
    inside = ca.certificate.tbs_certificate_bytes.replace(asn1.encode_der(sha256), asn1.encode_der(sha1.oid))
    signature = asn1.BitString(root.key.sign(inside, padding.PKCS1v15(), hashes.SHA1()), 0)
    whole = asn1.encode_der(der.Certificate(tbs=der.tlv(inside), algorithm=sha1, signature=signature))
    return Ca(x509.load_der_x509_certificate(whole), ca.key, ca.issuer)


def certified(request: bytes, root: Ca, now: datetime, *, life: timedelta = 30 * DAY) -> bytes:
    """What the holder of an offline root makes of a request (PKCS #10, PEM): its certificate, and the root behind."""
    asked = x509.load_pem_x509_csr(request)
    assert asked.is_signature_valid
    builder = (
        x509.CertificateBuilder(root.certificate.subject, asked.subject, asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
    )
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    signed = builder.add_extension(above, critical=False).sign(root.key, hashes.SHA256())
    return signed.public_bytes(_PEM) + root.pem


def make_crl(
    issuer: Ca,
    *,
    signed_by: Ca | None = None,
    begins: timedelta = -DAY,
    ends: timedelta = 30 * DAY,
    revoked: Sequence[int] = (),
    now: datetime | None = None,
) -> bytes:
    """A CRL of `issuer` in PEM."""
    now = now or datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now + begins)
        .next_update(now + ends)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for serial in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now + begins).build()
        builder = builder.add_revoked_certificate(one)
    return builder.sign((signed_by or issuer).key, hashes.SHA256()).public_bytes(_PEM)


def plug(folder: Path, ca: Ca, *, roots: Sequence[Ca] = (), crls: Sequence[bytes] = (), **files: bytes | None) -> None:
    """Write `ca` as Istio wants it, its root first and then `roots`. `files` replaces whole files, by their names with
    underscores (`ca_key=...`); None leaves one out."""
    folder.mkdir(exist_ok=True)
    between, above = [], ca
    while above.issuer is not None:
        between.append(above)
        above = above.issuer
    contents: dict[str, bytes | None] = {
        "ca_cert": ca.pem,
        "ca_key": ca.key_pem,
        "cert_chain": b"".join(one.pem for one in between),
        "root_cert": b"".join(one.pem for one in (ca.root, *roots)),
        "ca_crl": b"".join(crls) or None,
    } | files
    for name, content in contents.items():
        path = folder / f"{name.replace('_', '-')}.pem"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600 if name == "ca_key" else 0o644)


class Mint:
    """A root and an intermediate under it, which can be made anew."""

    def __init__(self, trust_domain: TrustDomain, *, root_path_length: int | None = None) -> None:
        self._uri = trust_domain.id.uri
        self.root = make_ca("root", uri=self._uri, path_length=root_path_length)
        self.renew()

    def renew(self) -> None:
        """Another intermediate under the same root."""
        self.ca = make_ca("intermediate", self.root, uri=self._uri, path_length=0)

    @property
    def root_der(self) -> bytes:
        return self.root.der

    def write(self, folder: Path) -> None:
        plug(folder, self.ca)
