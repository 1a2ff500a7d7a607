"""Reads a plugged-in CA in Istio's layout: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem, ca-crl.pem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from citadel.ca import keys
from citadel.ca.certificates import read_certificate, skid_of
from citadel.ca.chain import ca_faults, order_chain
from citadel.ca.kek import read_private_file
from citadel.ca.model import AuthorityCertificate, Skid
from citadel.errors import BadFile, CitadelError, Mistake
from citadel.spiffe import TrustDomain

_MAX_BYTES = 1024 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A plugged-in CA, verified whole. `chain` are the intermediates above it, without the root. CRLs are PEM."""

    certificate: AuthorityCertificate
    skid: Skid
    private_key: keys.PrivateKey
    chain: tuple[bytes, ...]
    root: AuthorityCertificate
    root_skid: Skid
    roots: tuple[tuple[Skid, AuthorityCertificate], ...]
    crls: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Plugged({self.skid})"


class _Reader:
    """Reads files and collects what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mistakes: list[Mistake] = []

    def wrong(self, name: str, message: str) -> None:
        self.mistakes.append(Mistake(str(self.folder / name), "", message))

    def read(self, name: str, parse: Callable[[bytes], _T], *, optional: bool = False) -> _T | None:
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                self.wrong(name, f"it is larger than {_MAX_BYTES} bytes")
                return None
            return parse(content)
        except FileNotFoundError:
            if not optional:
                self.wrong(name, "there is no such file")
        except OSError as error:
            self.wrong(name, f"it cannot be read: {error.strerror}")
        except ValueError as error:
            self.wrong(name, f"it is not what is expected here: {error}")
        return None

    def private_key(self, name: str) -> keys.PrivateKey | None:
        try:
            key = serialization.load_pem_private_key(read_private_file(self.folder / name), None)
        except CitadelError as error:
            self.wrong(name, error.sentence())
        except TypeError:
            self.wrong(name, "it is encrypted; a plugged-in key must not be (protect it by its permissions)")
        except ValueError:
            self.wrong(name, "it is no private key in PEM")
        else:
            if isinstance(key, keys.PrivateKey):
                return key
            self.wrong(name, "it is neither an EC nor an RSA key")
        return None


def _one(content: bytes) -> x509.Certificate:
    found = x509.load_pem_x509_certificates(content)
    if len(found) != 1:
        raise ValueError(f"expected one certificate, found {len(found)}")
    return found[0]


def _crls(content: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    parts = content.split(end)
    if len(parts) < 2:
        raise ValueError("there is no CRL in PEM in it")
    return [x509.load_pem_x509_crl(part + end) for part in parts[:-1]]


def read_cacerts(folder: Path, trust_domain: TrustDomain, now: datetime) -> Plugged:
    """The CA in `folder`. Raises BadFile with everything that is wrong, each with its file."""
    reader = _Reader(folder)
    certificate = reader.read("ca-cert.pem", _one)
    key = reader.private_key("ca-key.pem")
    pool = reader.read("cert-chain.pem", x509.load_pem_x509_certificates) or []
    roots = reader.read("root-cert.pem", x509.load_pem_x509_certificates) or []
    crls = reader.read("ca-crl.pem", _crls, optional=True) or []
    if reader.mistakes or certificate is None or key is None:
        raise BadFile(reader.mistakes)
    if key.public_key() != certificate.public_key():
        reader.wrong("ca-key.pem", "it is not the key of ca-cert.pem")
    way = order_chain(certificate, pool, roots)
    if certificate in roots:
        reader.wrong("ca-cert.pem", "it is a root itself; put an intermediate CA here that one of the roots signed")
    elif way is None:
        reader.wrong("cert-chain.pem", "no chain of signatures leads from ca-cert.pem to a root in root-cert.pem")
    between, root = way or ([], roots[0])
    _check_each(reader, certificate, between, root, trust_domain, now)
    _check_crls(reader, crls, [certificate, *between, *roots])
    if reader.mistakes:
        raise BadFile(reader.mistakes)
    return Plugged(
        certificate=read_certificate(_der(certificate)),
        skid=skid_of(certificate),
        private_key=key,
        chain=tuple(map(_der, between)),
        root=read_certificate(_der(root)),
        root_skid=skid_of(root),
        roots=tuple((skid_of(r), read_certificate(_der(r))) for r in roots),
        crls=tuple(crl.public_bytes(serialization.Encoding.PEM) for crl in crls),
    )


def _check_each(
    reader: _Reader,
    certificate: x509.Certificate,
    between: list[x509.Certificate],
    root: x509.Certificate,
    trust_domain: TrustDomain,
    now: datetime,
) -> None:
    """Each certificate of the way may be where it stands. `below` counts the CAs under it, leaves not included."""
    line = [("ca-cert.pem", certificate), *(("cert-chain.pem", c) for c in between)]
    if root != certificate:
        line.append(("root-cert.pem", root))
    for below, (name, one) in enumerate(line):
        for fault in ca_faults(one, below=below, trust_domain=trust_domain, now=now):
            reader.wrong(name, f"{one.subject.rfc4514_string() or 'a certificate without a name'}: {fault}")


def _check_crls(reader: _Reader, crls: list[x509.CertificateRevocationList], issuers: list[x509.Certificate]) -> None:
    for crl in crls:
        by = [c for c in issuers if c.subject == crl.issuer]
        if not any(_valid_signature(crl, c) for c in by):
            reader.wrong("ca-crl.pem", f"the CRL of {crl.issuer.rfc4514_string()} is not signed by a CA of this chain")


def _valid_signature(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, keys.PublicKey) and crl.is_signature_valid(key)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
