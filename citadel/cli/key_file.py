"""The key-encryption key's file: made by `init`, looked at by the doctor. What is in it is the business of ca.kek."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from citadel.errors import BadFile, Mistake, UnsafePermissions


def new_key_file(path: Path) -> None:
    """Make a new key at `path`, which must not be there; 0600 and durable on return. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def check_key_file(path: Path) -> None:
    """Raises UnsafePermissions, BadFile, OSError."""
    if path.stat().st_mode & 0o077:
        raise UnsafePermissions(f"others may read {path}", mend=f"run: chmod 600 {path}")
    if len(path.read_bytes()) < 32:
        raise BadFile([Mistake(str(path), "", "it is too short for a key")], mend="restore it from your copy")
