"""Keys of Vault's transit engine: what Vault says that it has made is looked at, and not believed."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citadel.ca import keys
from citadel.errors import FailedPrecondition
from citadel.vault.session import Session
from citadel.vault.transit_signer import TransitKeys


@dataclass
class Reply:
    data: dict[str, Any]


class LyingVault:
    """Says of any key that it is what was asked for."""

    def __init__(self, spki: bytes) -> None:
        text = base64.encodebytes(spki).decode()
        self._pem = f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n"

    async def call(self, _verb: str, _path: str, _body: object = None) -> Reply:
        return Reply({"type": "ecdsa-p256", "latest_version": 1, "keys": {"1": {"public_key": self._pem}}})


def _spki(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


P256 = _spki(ec.generate_private_key(ec.SECP256R1()))
PRIME256V1 = bytes.fromhex("06082a8648ce3d030107")


@pytest.mark.parametrize(
    "spki",
    [
        _spki(rsa.generate_private_key(65537, 1024)),
        _spki(rsa.generate_private_key(65537, 2048)),
        _spki(ec.generate_private_key(ec.SECP384R1())),
        _spki(ec.generate_private_key(ec.SECP256K1())),
        P256.replace(PRIME256V1, PRIME256V1[:-1] + b"\x55"),  # a curve that there is not
        b"x",
    ],
)
async def test_a_key_that_is_not_what_vault_says_it_is_is_refused(spki: bytes) -> None:
    vault = cast("Session", LyingVault(spki))
    with pytest.raises(FailedPrecondition):
        await TransitKeys(vault, "transit").make(keys.KeyType.EC_P256)
    good = await TransitKeys(cast("Session", LyingVault(P256)), "transit").make(keys.KeyType.EC_P256)
    assert good.reference.startswith("transit:transit/issuing-ca-")
