"""The double's transit engine: keys in versions, signatures, data keys."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.vault_double.answers import PEM, Refused

_HASHES: dict[str, hashes.HashAlgorithm] = {"sha2-256": hashes.SHA256(), "sha2-384": hashes.SHA384()}


@dataclass
class TransitKey:
    kind: str
    versions: list[Any]
    exportable: bool = False
    deletable: bool = False
    least: int = 0  # min_encryption_version
    oldest: int = 1  # min_decryption_version


class TransitMounts:
    """All mounts of the engine. `keys` by their mount and name."""

    def __init__(self) -> None:
        self.keys: dict[str, TransitKey] = {}

    def answer(self, method: str, mount: str, rest: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        where = f"{mount}/{rest[1]}" if len(rest) > 1 else ""
        if rest[0] == "keys" and method == "DELETE":
            if not self.keys[where].deletable:
                raise Refused(400, "error deleting policy: deletion is not allowed for this policy")
            del self.keys[where]
            return None
        if rest[0] == "keys" and method != "GET":
            if method == "DELETE":
                self._delete(where)
            else:
                self._change_key(where, rest[2:], body)
            return None
        key = self.keys.get(where)
        if key is None:
            what = "signing" if rest[0] == "sign" else "encryption"
            raise Refused(404) if rest[0] == "keys" else Refused(400, f"{what} key not found")
        match rest[0]:
            case "keys":
                return self._key_facts(rest[1], key)
            case "sign":
                return self._signatures(key, body)
            case "encrypt":
                return {"ciphertext": _sealed(key, body)}
            case "decrypt":
                return {"plaintext": _opened(key, body)}
        raise Refused(404, "1 error occurred:\n\t* unsupported path\n\n")

    def _delete(self, where: str) -> None:
        if where not in self.keys:
            raise Refused(400, "could not delete key; not found")
        if not self.keys[where].deletable:
            raise Refused(400, "error deleting policy: deletion is not allowed for this key")
        del self.keys[where]

    def _change_key(self, where: str, rest: list[str], body: dict[str, Any]) -> None:
        if rest == ["rotate"]:
            key = self.keys[where]
            key.versions.append(_new_transit_key(key.kind))
        elif rest == ["config"]:
            self.keys[where].deletable = bool(body.get("deletion_allowed", self.keys[where].deletable))
            self.keys[where].exportable |= bool(body.get("exportable"))
            self.keys[where].least = int(body.get("min_encryption_version") or 0)
            self.keys[where].oldest = int(body.get("min_decryption_version") or self.keys[where].oldest)
        elif where not in self.keys:
            kind = body.get("type", "aes256-gcm96")
            self.keys[where] = TransitKey(kind, [_new_transit_key(kind)], bool(body.get("exportable")))

    def _key_facts(self, name: str, key: TransitKey) -> dict[str, Any]:
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        versions: dict[str, Any] = {}
        for number, version in enumerate(key.versions, 1):
            if number < key.oldest:
                continue  # archived
            if isinstance(version, bytes):
                versions[str(number)] = int(time.time())
            else:
                versions[str(number)] = {"public_key": version.public_key().public_bytes(PEM, public).decode()}
        return {
            "name": name,
            "type": key.kind,
            "keys": versions,
            "latest_version": len(key.versions),
            "exportable": key.exportable,
            "deletion_allowed": key.deletable,
            "allow_plaintext_backup": False,
            "auto_rotate_period": 0,
            "derived": False,
            "imported_key": False,
            "min_encryption_version": key.least,
            "min_decryption_version": key.oldest,
            "supports_signing": not key.kind.startswith("aes"),
            "supports_encryption": key.kind.startswith("aes") or key.kind.startswith("rsa"),
        }

    def _signatures(self, key: TransitKey, body: dict[str, Any]) -> dict[str, Any]:
        number = int(body.get("key_version") or len(key.versions))
        why = ""
        if number > len(key.versions):
            why = "requested version for signing is higher than the latest key version"
        elif number < key.oldest:
            why = "no such key version"
        elif number < key.least:
            why = "requested version for signing is less than the minimum encryption key version"
        if "batch_input" not in body:
            if why:
                raise Refused(500, f"1 error occurred:\n\t* {why}\n\n")
            return _signature(key.versions[number - 1], number, body, body.get("input", ""))
        if why:
            return {"batch_results": [{"key_version": 0, "error": why} for _ in body["batch_input"]]}
        private = key.versions[number - 1]
        return {"batch_results": [_signature(private, number, body, item["input"]) for item in body["batch_input"]]}


def _signature(private: Any, number: int, body: dict[str, Any], text: str) -> dict[str, Any]:
    digest, algorithm = base64.b64decode(text), utils.Prehashed(_HASHES[body.get("hash_algorithm", "sha2-256")])
    if isinstance(private, rsa.RSAPrivateKey):
        made = private.sign(digest, padding.PKCS1v15(), algorithm)
    else:
        made = private.sign(digest, ec.ECDSA(algorithm))
    return {"signature": f"vault:v{number}:{base64.b64encode(made).decode()}", "key_version": number}


def _new_transit_key(kind: str) -> Any:
    match kind:
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa-2048" | "rsa-3072" | "rsa-4096":
            return rsa.generate_private_key(65537, int(kind[4:]))
        case _:
            return secrets.token_bytes(32)


def _sealed(key: TransitKey, body: dict[str, Any]) -> str:
    nonce, number = secrets.token_bytes(12), len(key.versions)
    extra = base64.b64decode(body.get("associated_data") or "")
    made = AESGCM(key.versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), extra or None)
    return f"vault:v{number}:{base64.b64encode(nonce + made).decode()}"


def _opened(key: TransitKey, body: dict[str, Any]) -> str:
    try:
        prefix, version, text = body["ciphertext"].split(":", 2)
        raw = base64.b64decode(text, validate=True)
        extra = base64.b64decode(body.get("associated_data") or "")
        plain = AESGCM(key.versions[int(version[1:]) - 1]).decrypt(raw[:12], raw[12:], extra or None)
        assert prefix == "vault"
    except Exception:
        raise Refused(400, "cipher: message authentication failed") from None
    return base64.b64encode(plain).decode()
