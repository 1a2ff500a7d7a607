"""Kinds of key, and what encrypts keys at rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PlainValidator, ValidationInfo

from citadel.config.values.reading import AS_TEXT
from citadel.config.values.secret import SecretSource, read_secret_source
from citadel.config.values.vault import TransitKey, read_vault_path

#: Kinds of key, in SPIRE's names; the same as ca.keys.KeyType.
KeyTypeName = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]


def _kek_source(value: Any, info: ValidationInfo) -> SecretSource | TransitKey | None:
    if isinstance(value, TransitKey):
        return value
    if isinstance(value, str) and value.startswith("vault-transit"):
        mount, _, name = read_vault_path(value.removeprefix("vault-transit").removeprefix(":")).rpartition("/")
        if not mount or not name:
            raise ValueError(
                "a transit key is written as vault-transit:MOUNT/NAME, such as vault-transit:transit/citadel"
            )
        return TransitKey(mount, name)
    try:
        return read_secret_source(value, info)
    except ValueError as error:
        raise ValueError(f"{error}, or vault-transit:MOUNT/NAME") from None


Kek = Annotated[SecretSource | TransitKey, PlainValidator(_kek_source), AS_TEXT]
