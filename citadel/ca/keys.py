"""Keys of authorities and workloads: kinds, strength, identifiers, and the one signature algorithm of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import SignatureAlgorithmOID

from citadel.ca.der import SubjectPublicKeyInfo
from citadel.ca.model import Skid
from citadel.errors import InternalFault

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyType(StrEnum):
    """Kinds of key that we make, in SPIRE's names."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


_MAKERS: dict[KeyType, Callable[[], PrivateKey]] = {
    KeyType.EC_P256: partial(ec.generate_private_key, ec.SECP256R1()),
    KeyType.EC_P384: partial(ec.generate_private_key, ec.SECP384R1()),
    KeyType.RSA_2048: partial(rsa.generate_private_key, 65537, 2048),
    KeyType.RSA_3072: partial(rsa.generate_private_key, 65537, 3072),
    KeyType.RSA_4096: partial(rsa.generate_private_key, 65537, 4096),
}


def generate(kind: KeyType = KeyType.EC_P256) -> PrivateKey:
    """A new private key. RSA takes up to seconds of CPU: call it from a thread."""
    return _MAKERS[kind]()


def spki(key: PublicKey) -> bytes:
    """The key's SubjectPublicKeyInfo in its canonical DER: named curve, uncompressed point (RFC 5480)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def skid(key: PublicKey) -> Skid:
    """The key's identifier: SHA-1 of the public key's bit string (RFC 5280, 4.2.1.2, method 1)."""
    return Skid(key_id(spki(key)).hex())


def key_id(spki: bytes) -> bytes:
    """`skid` as bytes, from a SubjectPublicKeyInfo (DER)."""
    key = asn1.decode_der(SubjectPublicKeyInfo, spki).key.as_bytes()
    return hashlib.sha1(key, usedforsecurity=False).digest()


def is_rsa(key: PublicKey) -> bool:
    return isinstance(key, rsa.RSAPublicKey)


def fingerprint(der: bytes) -> str:
    """SHA-256 in lower-case hex: of a certificate, or of a SubjectPublicKeyInfo."""
    return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A key to be certified, with what a certificate says of it: SubjectPublicKeyInfo (DER) and key identifier."""

    public_key: PublicKey
    spki: bytes
    key_id: bytes

    @classmethod
    def of(cls, public_key: PublicKey) -> SubjectKey:
        written = spki(public_key)
        return cls(public_key, written, key_id(written))


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """How a key signs: the identifier that the certificate carries, and the hash. RSA signs as PKCS #1 v1.5, since
    not everything that reads a mesh's certificates reads PSS."""

    oid: ObjectIdentifier
    hash: hashes.HashAlgorithm
    null_parameters: bool  # RFC 4055 section 5: NULL for RSA; RFC 5758 section 3.2: absent for ECDSA


_RSA = SignatureAlgorithm(SignatureAlgorithmOID.RSA_WITH_SHA256, hashes.SHA256(), True)
_ECDSA: dict[str, SignatureAlgorithm] = {
    "secp256r1": SignatureAlgorithm(SignatureAlgorithmOID.ECDSA_WITH_SHA256, hashes.SHA256(), False),
    "secp384r1": SignatureAlgorithm(SignatureAlgorithmOID.ECDSA_WITH_SHA384, hashes.SHA384(), False),
    "secp521r1": SignatureAlgorithm(SignatureAlgorithmOID.ECDSA_WITH_SHA512, hashes.SHA512(), False),
}


def signature_algorithm(key: PublicKey) -> SignatureAlgorithm:
    """The algorithm that `key` signs certificates with. Raises InternalFault for a curve that nobody let in."""
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA
    try:
        return _ECDSA[key.curve.name]
    except KeyError:
        raise InternalFault(f"a key on the curve {key.curve.name} cannot sign certificates") from None


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Signature bits over `data` as `signature_algorithm` says (ECDSA: DER, RFC 3279 section 2.2.3)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), _RSA.hash)
    return key.sign(data, ec.ECDSA(signature_algorithm(key.public_key()).hash))


def verify(key: PublicKey, signature: bytes, data: bytes) -> None:
    """Raises InternalFault if `signature` is not `key`'s over `data`."""
    algorithm = signature_algorithm(key)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm.hash)
        else:
            key.verify(signature, data, ec.ECDSA(algorithm.hash))
    except InvalidSignature:
        raise InternalFault("the signature does not verify with the signer's own public key") from None
