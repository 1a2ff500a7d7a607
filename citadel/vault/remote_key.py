"""Private keys that sign elsewhere, as cryptography's builders take them: for the request for an issuing CA.

They have the public half, and a way to have a digest signed; everything else that a private key can do is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
)

from citadel.ca import keys
from citadel.errors import InternalFault

#: Signs a digest; blocks, so it is called in a worker thread.
SignDigest = Callable[[bytes], bytes]


def remote_private_key(public: keys.PublicKey, sign: SignDigest) -> keys.PrivateKey:
    """The private half of `public`, which is where `sign` has it signed."""
    return RemoteRsaKey(public, sign) if isinstance(public, rsa.RSAPublicKey) else RemoteEcKey(public, sign)


def digest_of(content: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(content)
    return digest.finalize()


def _refuse() -> NoReturn:
    raise InternalFault("this private key is kept elsewhere: it signs, and does nothing else")


class RemoteEcKey(ec.EllipticCurvePrivateKey):
    """An EC key. Signs with the hash of its curve only, as everything that we make does."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign: SignDigest) -> None:
        self._public = public
        self._sign = sign

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        wanted = signature_algorithm.algorithm
        own = keys.signature_algorithm(self._public).hash
        if isinstance(wanted, utils.Prehashed) or wanted.name != own.name:
            _refuse()
        return self._sign(digest_of(bytes(data), own))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        _refuse()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        _refuse()

    def private_bytes(
        self, encoding: Encoding, format: PrivateFormat, encryption_algorithm: KeySerializationEncryption
    ) -> bytes:
        _refuse()

    def __copy__(self) -> RemoteEcKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RemoteEcKey:
        return self

    def __repr__(self) -> str:
        return f"RemoteEcKey({keys.skid(self._public)})"


class RemoteRsaKey(rsa.RSAPrivateKey):
    """An RSA key. Signs as PKCS #1 v1.5 with SHA-256 only, as everything that we make does."""

    def __init__(self, public: rsa.RSAPublicKey, sign: SignDigest) -> None:
        self._public = public
        self._sign = sign

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(
        self,
        data: Any,
        padding: AsymmetricPadding,
        algorithm: Any,
    ) -> bytes:
        own = keys.signature_algorithm(self._public).hash
        if not isinstance(padding, PKCS1v15) or not isinstance(algorithm, type(own)):
            _refuse()
        return self._sign(digest_of(bytes(data), own))

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> bytes:
        _refuse()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        _refuse()

    def private_bytes(
        self, encoding: Encoding, format: PrivateFormat, encryption_algorithm: KeySerializationEncryption
    ) -> bytes:
        _refuse()

    def __copy__(self) -> RemoteRsaKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RemoteRsaKey:
        return self

    def __repr__(self) -> str:
        return f"RemoteRsaKey({keys.skid(self._public)})"


__all__ = ["RemoteEcKey", "RemoteRsaKey", "digest_of", "remote_private_key"]
