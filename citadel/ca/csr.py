"""The CSR gate: lets a certificate signing request in, or refuses it with one sentence (RFC 2986, RFC 2985).

A request contributes nothing but its public key to a certificate. Names and uses come from the registry; what a request
asks for beyond that is not dropped in silence but refused, since its sender would rely on it. Its subject alone is
ignored: Istio's and SPIRE's agents fill it in by habit, and nothing reads it.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import (
    ExtendedKeyUsageOID,
    ObjectIdentifier,
    PublicKeyAlgorithmOID,
    SignatureAlgorithmOID,
)

from citadel.ca.keys import PublicKey, SubjectKey, is_rsa
from citadel.ca.strength import KeyPolicy, weakness
from citadel.ca.unreadable import UNREADABLE
from citadel.errors import BadCsr
from citadel.spiffe import SpiffeId

_PEM = re.compile(
    rb"\s*-----BEGIN (?P<label>(?:NEW )?CERTIFICATE REQUEST)-----\r?\n"
    rb"(?P<body>[A-Za-z0-9+/=\r\n]+)"
    rb"-----END (?P=label)-----\s*"
)
_PARSE_ERROR = re.compile(r"ParseError \{ kind: (?P<kind>\w+)(?:[^\[]*location: \[(?P<where>[^\]]*))?")
_QUOTED = re.compile(r'"([^"]+)"')
_CHALLENGE_PASSWORD = ObjectIdentifier("1.2.840.113549.1.9.7")  # RFC 2985, 5.4.1
_EXTENSION_REQUEST = ObjectIdentifier("1.2.840.113549.1.9.14")  # RFC 2985, 5.4.2
_EC_SIGNATURES: dict[ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: hashes.SHA512(),
}
_RSA_SIGNATURES: dict[ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.RSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.RSA_WITH_SHA512: hashes.SHA512(),
}
_USES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


@dataclass(frozen=True, slots=True)
class CsrPolicy:
    max_bytes: int = 16 * 1024  # of what comes in, PEM or DER; RSA-4096 with twenty names is 2 KiB
    keys: KeyPolicy = field(default_factory=KeyPolicy)


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The names that a caller may have in its certificate."""

    spiffe_id: SpiffeId
    dns_names: tuple[str, ...] = ()


def admit(request: bytes, entitled: Entitlement, policy: CsrPolicy) -> SubjectKey:
    """The key of a request (DER, or one block of PEM) that asks for nothing its caller is not entitled to.

    Raises BadCsr with the first thing that is wrong, the cheap checks first.
    """
    der = _unwrap(request, policy)
    try:
        csr = x509.load_der_x509_csr(der)
        attributes = csr.attributes
        extensions = csr.extensions
        kind = csr.public_key_algorithm_oid  # type: ignore[attr-defined]  # the library's own stubs lack it
        key = csr.public_key()
    except UNREADABLE as error:
        raise BadCsr(f"the CSR cannot be read: {_one_line(error)}") from error
    _check_attributes(attributes)
    if kind == PublicKeyAlgorithmOID.RSASSA_PSS:  # the library takes it for any RSA key, which its owner forbade
        raise BadCsr("the CSR's key is RSA for PSS signatures only; expected one without that restriction")
    strong = _strong(key, policy.keys)
    for extension in extensions:
        _check_extension(extension, entitled, rsa_key=is_rsa(strong))
    _check_signature(csr, der, strong)
    return SubjectKey.of(strong)


def wanted_id(request: bytes, policy: CsrPolicy) -> SpiffeId:
    """The one SPIFFE ID that a request asks for, where its caller may have any. Raises BadCsr, BadSpiffeId."""
    der = _unwrap(request, policy)
    try:
        names = x509.load_der_x509_csr(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise BadCsr("the CSR names no SPIFFE ID; expected exactly one URI") from None
    except UNREADABLE as error:
        raise BadCsr(f"the CSR cannot be read: {_one_line(error)}") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise BadCsr(f"the CSR names {len(uris)} URIs; expected exactly one, a SPIFFE ID")
    return SpiffeId.parse(uris[0])


def _unwrap(request: bytes, policy: CsrPolicy) -> bytes:
    if len(request) > policy.max_bytes:
        raise BadCsr(f"the CSR has {len(request)} bytes; at most {policy.max_bytes} are allowed")
    if not request.lstrip().startswith(b"-----BEGIN"):
        return request
    match = _PEM.fullmatch(request)
    if match is None:
        raise BadCsr("the CSR is not one block of PEM, labelled CERTIFICATE REQUEST, with nothing before or after it")
    try:
        return base64.b64decode(b"".join(match["body"].split()), validate=True)
    except binascii.Error as error:
        raise BadCsr(f"the CSR's PEM is not base64: {_one_line(error)}") from error


def _check_attributes(attributes: x509.Attributes) -> None:
    seen = False
    for attribute in attributes:
        if attribute.oid == _CHALLENGE_PASSWORD:
            raise BadCsr("the CSR has a challenge password, which means nothing here; leave it out")
        if attribute.oid != _EXTENSION_REQUEST:
            raise BadCsr(
                f"the CSR has the attribute {attribute.oid.dotted_string}; only an extension request is allowed"
            )
        if seen:
            raise BadCsr("the CSR has two extension requests; expected one at most")
        seen = True


def _strong(key: object, policy: KeyPolicy) -> PublicKey:
    if fault := weakness(key, policy):
        raise BadCsr(f"the CSR's key {fault}")
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # no other kind is without fault
    return key


def _check_extension(extension: x509.Extension[x509.ExtensionType], entitled: Entitlement, *, rsa_key: bool) -> None:
    value = extension.value
    match value:
        case x509.SubjectAlternativeName():
            _check_names(value, entitled)
        case x509.KeyUsage():
            _check_key_usage(value, rsa_key=rsa_key)
        case x509.ExtendedKeyUsage():
            if beyond := next((use for use in value if use not in _USES), None):
                raise BadCsr(
                    f"the CSR asks for the extended use {_name(beyond)}; only serverAuth and clientAuth are given"
                )
        case x509.BasicConstraints():
            if value.ca or value.path_length is not None:
                raise BadCsr("the CSR asks to be a certificate authority, which no workload is")
        case _:
            raise BadCsr(
                f"the CSR asks for the extension {_name(extension.oid)}; only subjectAltName, keyUsage, "
                "extendedKeyUsage and basicConstraints are allowed"
            )


def _check_names(names: x509.SubjectAlternativeName, entitled: Entitlement) -> None:
    uris = 0
    for name in names:
        match name:
            case x509.UniformResourceIdentifier():
                uris += 1
                if name.value != entitled.spiffe_id.uri:
                    raise BadCsr(f"the CSR asks for the URI {_shown(name.value)}; its caller is {entitled.spiffe_id}")
            case x509.DNSName():
                if name.value not in entitled.dns_names:
                    raise BadCsr(f"the CSR asks for the DNS name {_shown(name.value)}, which the entry does not list")
            case _:
                raise BadCsr(
                    f"the CSR asks for a name of the kind {type(name).__name__}; only a SPIFFE ID and DNS names "
                    "are given"
                )
    if uris > 1:
        raise BadCsr(f"the CSR asks for {uris} URIs; an X.509-SVID has exactly one")


def _check_key_usage(usage: x509.KeyUsage, *, rsa_key: bool) -> None:
    beyond = {
        "contentCommitment": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment and not rsa_key,
        "dataEncipherment": usage.data_encipherment,
        "keyAgreement": usage.key_agreement,
        "keyCertSign": usage.key_cert_sign,
        "cRLSign": usage.crl_sign,
    }
    if asked := [name for name, wanted in beyond.items() if wanted]:
        given = "digitalSignature and keyEncipherment" if rsa_key else "digitalSignature"
        raise BadCsr(f"the CSR asks for the key usage {', '.join(asked)}; only {given} is given")


def _check_signature(csr: x509.CertificateSigningRequest, der: bytes, key: PublicKey) -> None:
    hash_ = (_RSA_SIGNATURES if is_rsa(key) else _EC_SIGNATURES).get(csr.signature_algorithm_oid)
    if hash_ is None:
        raise BadCsr(
            f"the CSR is signed with {_name(csr.signature_algorithm_oid)}; expected "
            f"{'RSA (PKCS #1 v1.5)' if is_rsa(key) else 'ECDSA'} with SHA-256, SHA-384 or SHA-512"
        )
    signature = csr.signature
    if der[-len(signature) - 1] != 0:  # a signature is whole octets; the parser drops what this byte says
        raise BadCsr("the CSR's signature is not a bit string of whole octets")
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, csr.tbs_certrequest_bytes, padding.PKCS1v15(), hash_)
        else:
            key.verify(signature, csr.tbs_certrequest_bytes, ec.ECDSA(hash_))
    except InvalidSignature:
        raise BadCsr("the CSR's signature does not verify with the key in it") from None
    except UNREADABLE as error:
        raise BadCsr(f"the CSR's signature cannot be read: {_one_line(error)}") from error


def _name(oid: ObjectIdentifier) -> str:
    name = oid._name  # the library has no public way from an OID to its name
    return oid.dotted_string if name == "Unknown OID" else f"{name} ({oid.dotted_string})"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if parsed := _PARSE_ERROR.search(text):  # how the library writes what is wrong with the DER, and where
        where = " of ".join(reversed(_QUOTED.findall(parsed["where"] or "")))
        return f"its DER is malformed ({parsed['kind']}{' in ' + where if where else ''})"
    return text or type(error).__name__
