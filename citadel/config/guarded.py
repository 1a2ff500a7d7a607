"""Whose hands files are in, and who else may change them: docs/security-model.md says why."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from citadel.config.settings import Settings
from citadel.config.values import SecretSource


def guarded_folders(settings: Settings) -> dict[str, Path]:
    """The folders in which nobody but root and Citadel's own user may put anything, by what each is for."""
    folders = {
        "files.data_dir": settings.data_dir,
        "files.db": _database_folder(settings),
        "files.keys": _key_folder(settings),
        "sockets.admin": settings.sockets.admin.path.parent,
        "sockets.workload": settings.sockets.workload.path.parent,
        "sockets.authz_http": _folder_of(settings.authorization.http.socket),
        "sockets.authzen": _folder_of(settings.authorization.authzen.socket),
    }
    return {what: path for what, path in folders.items() if path is not None}


def trusted_files(settings: Settings) -> dict[str, Path]:
    """The files and folders of others that Citadel believes, by the setting that names them: not everybody may write
    them."""
    authorization, authzen = settings.authorization, settings.authorization.authzen
    files = {
        "authorization.policies": authorization.policies,
        "authorization.authzen.entities": authzen.entities,
        "authorization.authzen.client_ca": authzen.client_ca,
        "authorization.authzen.tls_cert": authzen.tls_cert,
        "authorization.authzen.tls_key": authzen.tls_key,
        "apply.directory": settings.apply.directory,
    }
    return {what: path for what, path in files.items() if path is not None}


def _folder_of(socket: Path | None) -> Path | None:
    return None if socket is None else socket.parent


def _database_folder(settings: Settings) -> Path | None:
    """None for a database that is no file."""
    url = settings.store.url.get_secret_value()
    if not url:
        return settings.data_dir / "db"
    parts = urlsplit(url)
    return Path("/" + parts.path.lstrip("/")).parent if parts.scheme == "sqlite" else None


def _key_folder(settings: Settings) -> Path | None:
    source = settings.keys.kek
    return Path(source.where).parent if isinstance(source, SecretSource) and source.kind == "file" else None
