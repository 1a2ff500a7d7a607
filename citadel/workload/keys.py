"""The workloads' keys: made here, kept in memory only, and proved to the server by a certificate signing request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.errors import InternalFault
from citadel.spiffe import SpiffeId

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MAKERS: Mapping[str, Callable[[], PrivateKey]] = {
    "ec-p256": partial(ec.generate_private_key, ec.SECP256R1()),
    "ec-p384": partial(ec.generate_private_key, ec.SECP384R1()),
    "rsa-2048": partial(rsa.generate_private_key, 65537, 2048),
    "rsa-3072": partial(rsa.generate_private_key, 65537, 3072),
    "rsa-4096": partial(rsa.generate_private_key, 65537, 4096),
}
_THREADS = 2


class WorkloadKeys:
    """Makes keys of one kind (SPIRE's names: `ec-p256`, `ec-p384`, `rsa-2048`, `rsa-3072`, `rsa-4096`)."""

    def __init__(self, kind: str = "ec-p256") -> None:
        """Raises InternalFault for another kind."""
        if kind not in _MAKERS:
            raise InternalFault(f"{kind!r} is not a kind of key that workloads can have")
        self._make = _MAKERS[kind]
        self._slow = kind.startswith("rsa")
        self._threads = asyncio.Semaphore(_THREADS)

    @property
    def batch(self) -> int:
        """How many are well asked for together. Few, if each takes long: nobody should wait for the last one."""
        return 4 if self._slow else 64

    async def make(self) -> PrivateKey:
        """A new key. An RSA key takes up to seconds of CPU, so it is made in a thread."""
        if not self._slow:
            return self._make()
        async with self._threads:
            return await asyncio.to_thread(self._make)


def request_for(key: PrivateKey, spiffe_id: SpiffeId) -> bytes:
    """A CSR (RFC 2986, DER) that asks for nothing but this SPIFFE ID."""
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id.uri)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(name, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pkcs8(key: PrivateKey) -> bytes:
    """The key in the form in which workloads get it (RFC 5958, DER)."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
