"""Keys of Vault's transit engine: how they are written down, and whether what Vault says of one fits its use. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from citadel.ca import keys
from citadel.errors import FailedPrecondition, InternalFault

_REFERENCE = re.compile(r"transit:(?P<mount>[^:]+)/(?P<name>[^:/]+):v(?P<version>[1-9][0-9]{0,8})")
REPLACE = "make another issuing CA: citadel ca rotate"


@dataclass(frozen=True, slots=True)
class TransitKey:
    """One version of one key of one transit mount, as it is written down with its authority."""

    mount: str
    name: str
    version: int

    @classmethod
    def parse(cls, reference: str) -> TransitKey:
        """Raises InternalFault: only we write references."""
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise InternalFault(f"{reference[:80]!r} is no reference to a key in Vault's transit engine")
        return cls(found["mount"], found["name"], int(found["version"]))

    @property
    def reference(self) -> str:
        return f"transit:{self.mount}/{self.name}:v{self.version}"

    def __str__(self) -> str:
        return f"the transit key {self.name} at {self.mount} in Vault"


def key_faults(facts: Mapping[str, object], kind: str) -> list[str]:
    """What makes a key unfit to sign for an issuing CA: it is of another kind, or may exist outside of Vault, or not at
    all one day."""
    found = common_faults(facts, [kind])
    if facts.get("imported_key"):
        found.append("was imported, so it exists elsewhere")
    if facts.get("derived"):
        found.append("is derived, so it cannot sign")
    return found


def common_faults(facts: Mapping[str, object], kinds: Sequence[str]) -> list[str]:
    """What makes a key unfit for anything of ours. `kinds`: the types that it may be of."""
    found = []
    if facts.get("type") not in kinds:
        found.append(f"is of the type {facts.get('type')}, expected {' or '.join(kinds)}")
    if facts.get("exportable"):
        found.append("is exportable")
    if facts.get("allow_plaintext_backup"):
        found.append("may be backed up in plain text")
    if facts.get("deletion_allowed"):
        found.append("may be deleted, and everything that needs it would be lost")
    if facts.get("soft_deleted"):
        found.append("was deleted, for now")
    return found


def type_of(public: keys.PublicKey) -> str:
    if isinstance(public, rsa.RSAPublicKey):
        return f"rsa-{public.key_size}"
    return f"ecdsa-p{public.key_size}"


def public_key_of(facts: Mapping[str, object], key: TransitKey) -> keys.PublicKey:
    """Of its version. Raises FailedPrecondition."""
    versions = facts.get("keys")
    one = versions.get(str(key.version)) if isinstance(versions, Mapping) else None
    text = one.get("public_key") if isinstance(one, Mapping) else None
    try:
        public = serialization.load_pem_public_key(str(text).encode())
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise FailedPrecondition(f"{key} has no version {key.version} any more", mend=REPLACE)
    return public


__all__ = ["REPLACE", "TransitKey", "key_faults", "public_key_of", "type_of"]
