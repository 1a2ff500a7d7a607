"""Where a secret is read from: `file:PATH` or `credential:NAME`, never the secret itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, ValidationInfo

from citadel.config.values.paths import read_path
from citadel.config.values.reading import AS_TEXT


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is read from: never the secret itself.

    `path`: a file of mode 0600 (`file`), or one in the folder that systemd's LoadCredential= names (`credential`).
    """

    kind: Literal["file", "credential"]
    where: str  # an absolute path, or the credential's name

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}"


def read_secret_source(value: Any, info: ValidationInfo) -> SecretSource | None:
    if value is None or isinstance(value, SecretSource):
        return value
    expected = "it must be file:PATH or credential:NAME"  # what was written is not shown: it may be the secret itself
    if not isinstance(value, str):
        raise ValueError(expected)
    kind, colon, where = value.partition(":")
    if kind == "credential" and colon:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", where):
            raise ValueError("a credential's name has letters, digits, '.', '_' and '-' only")
        return SecretSource("credential", where)
    if kind == "file" and colon:
        return SecretSource("file", str(read_path(where, info)))
    raise ValueError(expected)


def _optional_secret_source(value: Any, info: ValidationInfo) -> SecretSource | None:
    return None if value == "" else read_secret_source(value, info)


OptionalSecret = Annotated[SecretSource | None, PlainValidator(_optional_secret_source), AS_TEXT]
