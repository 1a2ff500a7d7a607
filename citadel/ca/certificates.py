"""Reads CA certificates into values: the one place that looks at an authority's X.509."""

from __future__ import annotations

import hashlib
import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from citadel.ca import keys
from citadel.ca.model import AuthorityCertificate, Skid
from citadel.ca.unreadable import UNREADABLE
from citadel.errors import InvalidInput

_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(?:(?!-----).)*-----END \1-----[ \t]*(?=\r?\n|\Z)", re.DOTALL
)
_EDGE = re.compile(rb"-{2,}[ \t]*(?:BEGIN|END)", re.IGNORECASE)
_STRAY = re.compile(rb"^[ \t]*[A-Za-z0-9+/]{48,}={0,2}[ \t]*\r?$", re.MULTILINE)


def parse(der: bytes) -> x509.Certificate:
    """A certificate of which every part that we look at can be read. Raises InvalidInput."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        read_through(certificate)
    except UNREADABLE as error:
        raise InvalidInput(f"this is no X.509 certificate that can be read: {error}") from error
    return certificate


def parse_pem(content: bytes, *, most: int) -> list[x509.Certificate]:
    """The certificates in a PEM file (RFC 7468), in order, none twice; an empty file has none.

    Raises InvalidInput for anything in it that is no certificate, and for more than `most` of them.
    """
    blocks = pem_blocks(content, "certificate", "openssl x509 -inform DER -in OLD -out NEW")
    if any("PRIVATE KEY" in label for label, _ in blocks):
        raise InvalidInput("it holds a private key; only certificates belong here")
    if strange := next((label for label, _ in blocks if label not in _LABELS), None):
        raise InvalidInput(f"it holds a {strange}; only certificates belong here")
    if len(blocks) > most:
        raise InvalidInput(f"it holds {len(blocks)} certificates; at most {most} are allowed")
    found = []
    for number, (_, block) in enumerate(blocks, 1):
        try:
            certificate = x509.load_pem_x509_certificate(block)
            read_through(certificate)
            skid_of(certificate)
        except (*UNREADABLE, InvalidInput) as error:
            raise InvalidInput(f"certificate {number} of {len(blocks)} in it cannot be used: {error}") from error
        found.append(certificate)
    return list(dict.fromkeys(found))


def pem_blocks(content: bytes, what: str, convert: str) -> list[tuple[str, bytes]]:
    """The blocks of a PEM file (RFC 7468), each with its label; none if it is empty. Text around them is allowed, as
    `openssl x509 -text` writes it, but nothing that may be a damaged block.

    Raises InvalidInput, naming the line. `what` should be in it; `convert` is a command that makes PEM of DER.
    """
    if content[:1] == b"\x30" and not _EDGE.search(content):
        raise InvalidInput(f"it is DER, not PEM; convert it: {convert}")
    blocks, rest, last = [], [], 0
    for found in _BLOCK.finditer(content):
        blocks.append((found[1].decode(), found[0] + b"\n"))
        rest.append((last, content[last : found.start()]))
        last = found.end()
    rest.append((last, content[last:]))
    for start, text in rest:
        if wrong := _EDGE.search(text) or _STRAY.search(text):
            line = content.count(b"\n", 0, start + wrong.start()) + 1
            raise InvalidInput(f"line {line} belongs to a block of PEM that is cut short or damaged")
    if not blocks and content.strip():
        raise InvalidInput(f"there is no {what} in PEM in it")
    return blocks


def read_through(certificate: x509.Certificate) -> None:
    """Read what cryptography reads on demand, so that what is malformed shows now. Raises any of many errors."""
    certificate.subject.rfc4514_string()
    certificate.issuer.rfc4514_string()
    tuple(certificate.extensions)
    certificate.public_key()
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def read_certificate(der: bytes) -> AuthorityCertificate:
    """An authority's certificate from DER. Raises InvalidInput if it is none, or its key is neither EC nor RSA."""
    return describe(parse(der))


def describe(certificate: x509.Certificate) -> AuthorityCertificate:
    """What we say of a certificate that was parsed here. Raises InvalidInput if its key is neither EC nor RSA."""
    own = skid_of(certificate)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return AuthorityCertificate(
        der=der,
        fingerprint=hashlib.sha256(der).hexdigest(),
        subject=certificate.subject.rfc4514_string(),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer_skid=authority_key_id(certificate) or (own if certificate.subject == certificate.issuer else None),
    )


def skid_of(certificate: x509.Certificate) -> Skid:
    """Its subject key identifier; if it has none, RFC 5280's method 1 over its key. Raises InvalidInput."""
    try:
        digest = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        if not isinstance(key, keys.PublicKey):
            raise InvalidInput("the key of this certificate is neither EC nor RSA") from None
        return keys.skid(key)
    if not 0 < len(digest) <= 64:
        raise InvalidInput(f"its subject key identifier has {len(digest)} bytes; expected 1 to 64")
    return Skid(digest.hex())


def authority_key_id(certificate: x509.Certificate) -> Skid | None:
    """Which key signed it, as far as it says so."""
    try:
        digest = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    return Skid(digest.hex()) if digest else None


def name_of(certificate: x509.Certificate) -> str:
    """Its subject for a message, never too long."""
    text = certificate.subject.rfc4514_string() or "a certificate without a name"
    return text if len(text) <= 120 else text[:117] + "..."


def split_der(joined: bytes) -> list[bytes]:
    """DER values that stand one behind the other, each by itself. Raises InvalidInput."""
    found = []
    while joined:
        size = _der_size(joined)
        if size > len(joined):
            raise InvalidInput("a DER value is cut short")
        found.append(joined[:size])
        joined = joined[size:]
    return found


def _der_size(data: bytes) -> int:
    if len(data) < 2:
        raise InvalidInput("a DER value is cut short")
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if not 1 <= count <= 4 or len(data) < 2 + count:
        raise InvalidInput("a DER length is malformed")
    return 2 + count + int.from_bytes(data[2 : 2 + count])
