"""What has a name in Vault: mounts, issuers, roles, and keys of its transit engine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator


@dataclass(frozen=True, slots=True)
class TransitKey:
    """A key of Vault's transit engine, where it is mounted and what it is called."""

    mount: str
    name: str

    def __str__(self) -> str:
        return f"vault-transit:{self.mount}/{self.name}"


def read_vault_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(?:[A-Za-z0-9_.:-]+/?)*", value) or ".." in value:
        raise ValueError(f"{value!r} is not a path or name in Vault: letters, digits, '_', '.', ':', '-' and '/'")
    return value.strip("/")


VaultPath = Annotated[str, PlainValidator(read_vault_path)]
