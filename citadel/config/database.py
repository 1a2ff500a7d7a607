"""The database's address with its password, for the store: the one place where the two come together."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import SecretStr

from citadel.config.settings import Settings
from citadel.config.values import SecretSource
from citadel.errors import FailedPrecondition, NotFound, PermissionDenied, UnsafePermissions

_MAX_PASSWORD_BYTES = 4096


def database_url(settings: Settings, env: Mapping[str, str]) -> SecretStr:
    """The store's URL, complete: `sqlite:////path` or `postgresql://user:password@host/name`.

    Raises NotFound, PermissionDenied, UnsafePermissions or FailedPrecondition if the password cannot be read.
    """
    url = settings.store.url.get_secret_value()
    if not url:
        return SecretStr(f"sqlite:///{settings.data_dir / 'db' / 'citadel.db'}")
    source = settings.store.password_file
    if source is None:
        return SecretStr(url)
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    password = quote(_read(secret_path(source, env), source.kind), safe="")
    return SecretStr(urlunsplit(parts._replace(netloc=f"{user}:{password}{at or '@'}{host}")))


def secret_path(source: SecretSource, env: Mapping[str, str]) -> Path:
    """The file that `source` names. Raises FailedPrecondition if there are no credentials (systemd.exec(5))."""
    if source.kind == "file":
        return Path(source.where)
    folder = env.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise FailedPrecondition(
            f"credential {source.where!r} is asked for, but CREDENTIALS_DIRECTORY is not set",
            mend=f"start Citadel as a systemd service with LoadCredential={source.where}:PATH",
        )
    return Path(folder) / source.where


def _read(path: Path, kind: Literal["file", "credential"]) -> str:
    """Raises CitadelErrors. For a service with User=, systemd grants that user by an access list on the credential,
    which shows as group-readable."""
    others = stat.S_IRWXO if kind == "credential" else stat.S_IRWXG | stat.S_IRWXO
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & others:
                raise UnsafePermissions(f"{path} can be read by others", mend=f"run: chmod 600 {path}")
            raw = file.read(_MAX_PASSWORD_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"store.password_file names {path}, which is not there") from None
    except PermissionError:
        raise PermissionDenied(f"{path} may not be read by uid {os.geteuid()}") from None
    if len(raw) > _MAX_PASSWORD_BYTES:
        raise FailedPrecondition(f"{path} is too large for a password")
    text = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not text:
        raise FailedPrecondition(f"{path} is empty; it must hold the database's password")
    return text
